// What a test asks a page. Each answer is a list of problems, each with words of the place.
window.look = (() => {
  const short = (node) => (node.outerHTML || node.textContent || "").replace(/\s+/g, " ").slice(0, 160);
  const shown = (node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const everywhere = (css) => [...document.querySelectorAll(css)];
  // The browser tells a page of its new size with the next frame; the one after it shows the answer.
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const quiet = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  // Resolves when all pictures and formulas had their chance.
  async function ready() {
    for (const picture of document.images) picture.loading = "eager";
    for (let waited = 0; waited < 10000; waited += 50) {
      const pending = [...document.images].some((picture) => !picture.complete);
      const unset = everywhere("span.math, div.math").some((node) => !node.querySelector("mjx-container"));
      if (!pending && !unset) break;
      await quiet(50);
    }
    await document.fonts.ready;
  }

  function pictures() {
    const problems = [];
    for (const picture of document.images) {
      if (!picture.naturalWidth) problems.push("missing: " + short(picture));
      const alternative = picture.getAttribute("alt");
      if (!alternative || !alternative.trim() || /^[\w./-]+\.(png|svg|webp|jpg)$/.test(alternative))
        problems.push("no alternative text: " + short(picture));
    }
    for (const drawing of everywhere("article svg"))
      if (shown(drawing) && !drawing.closest("[aria-hidden=true], [aria-label], a, button, label"))
        if (!drawing.querySelector("title")) problems.push("no title: " + short(drawing));
    return problems;
  }

  // TeX that a reader would see: a formula without a picture of it, an error, or plain signs.
  function formulas() {
    const problems = everywhere(".math")
      .filter((node) => !node.closest("mjx-container") && !node.querySelector("mjx-container"))
      .map(short);
    problems.push(...everywhere("mjx-merror, merror").map(short));
    const walk = document.createTreeWalker(document.querySelector("article") || document.body, 4);
    while (walk.nextNode()) {
      const node = walk.currentNode;
      if (node.parentElement.closest("code, pre, script, style, .math, .sig")) continue;
      if (/\$[^$\n]+\$|\\(frac|sqrt|text|sum|cdot|sigma)\b|\\\(|\\\[/.test(node.textContent))
        problems.push(node.textContent.slice(0, 160));
    }
    return problems;
  }

  const scrolls = (node) => /auto|scroll/.test(getComputedStyle(node).overflowX);
  const hides = (node) => /hidden|clip/.test(getComputedStyle(node).overflowX);

  // What a reader of this width cannot see: beyond the page's edge, or cut off by a box that
  // does not scroll.
  function cut() {
    const width = document.documentElement.clientWidth;
    const problems = [];
    if (document.documentElement.scrollWidth > width) problems.push("the page scrolls sideways");
    const main = document.querySelector("article") || document.body;
    for (const node of main.querySelectorAll("*:not(pre *, svg *, mjx-container *, .sig *)")) {
      const box = node.getBoundingClientRect();
      const outside = box.right > width + 1 || box.left < -1;
      const inside = node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 1;
      if (!(outside || inside) || box.width < 2 || box.height < 2 || !shown(node)) continue;
      let holder = node.parentElement;
      while (holder && holder !== main && !scrolls(holder)) holder = holder.parentElement;
      const inScroller = holder && holder !== main && scrolls(holder);
      if (!inScroller && outside) problems.push("beyond the edge: " + short(node));
      const inline = getComputedStyle(node).display === "inline";
      if (inside && !inline && hides(node)) problems.push("cut off: " + short(node));
    }
    return problems;
  }

  // Code that a reader at a desk has to scroll.
  function wide() {
    return everywhere("article pre")
      .filter((code) => shown(code) && code.scrollWidth > code.clientWidth + 1)
      .map((code) => code.textContent.split("\n").reduce((a, b) => (a.length < b.length ? b : a)));
  }

  // Words in tables that do not stand on one line.
  function broken() {
    const problems = [];
    const walk = document.createTreeWalker(document.querySelector("article") || document.body, 4);
    while (walk.nextNode()) {
      const node = walk.currentNode;
      if (!node.parentElement.closest("td, th") || !shown(node.parentElement)) continue;
      if (node.parentElement.closest("pre, script, mjx-container, .genindextable")) continue;
      for (const word of node.textContent.matchAll(/[\p{L}\p{N}_]+/gu)) {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
        if (lines.size > 1) problems.push("broken: " + word[0]);
      }
    }
    return problems;
  }

  // axe-core's serious and critical findings, of these rules or of all. Long pages have thousands
  // of coloured words of code; their colours are those of the short pages, where all are looked at.
  async function findings(rules) {
    await frame();
    await frame();
    const options = { resultTypes: ["violations"] };
    if (rules) options.runOnly = { type: "rule", values: rules };
    if (document.querySelectorAll("pre span, .sig span").length > 400)
      for (const code of document.querySelectorAll("pre, .sig")) code.textContent = code.textContent;
    const result = await axe.run(document, options);
    return result.violations
      .filter((found) => ["serious", "critical"].includes(found.impact))
      .flatMap((found) => found.nodes.map((node) => `${found.id}: ${node.html.slice(0, 200)}`));
  }

  return { ready, pictures, formulas, cut, wide, broken, findings };
})();
