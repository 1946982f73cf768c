// A page opened as a file cannot read other files: the search then lists pages without excerpts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// What scrolls inside its box can be reached, and then scrolled, with the keyboard.
function reachWhatScrolls() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, div.math, mjx-container, .cell_output")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
}

// A full stop does not begin a line: it stays with the short formula before it.
function keepStops() {
  for (const formula of document.querySelectorAll("span.math")) {
    const after = formula.nextSibling;
    const stops = after?.nodeType === Node.TEXT_NODE ? after.data.match(/^[.,;:)?]+/) : null;
    if (!stops || formula.offsetWidth > 200) continue;
    const line = document.createElement("span");
    line.style.whiteSpace = "nowrap";
    formula.before(line);
    if (after.data.length > stops[0].length) after.splitText(stops[0].length);
    line.append(formula, after);
  }
}
addEventListener("load", () => {
  reachWhatScrolls();
  window.MathJax?.startup?.promise?.then(() => { keepStops(); reachWhatScrolls(); });  // set later
});
addEventListener("resize", reachWhatScrolls);
