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
addEventListener("load", () => {
  reachWhatScrolls();
  window.MathJax?.startup?.promise?.then(reachWhatScrolls);  // formulas are set later
});
addEventListener("resize", reachWhatScrolls);
