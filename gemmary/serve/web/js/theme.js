// Light or dark before anything is painted. "system" follows the system.
"use strict";
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem("gemmary.theme") || "system"; } catch { return "system"; }
  };
  const apply = () => {
    const theme = chosen();
    document.documentElement.dataset.theme = theme === "system" ? (system.matches ? "dark" : "light") : theme;
  };
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  window.gemmaryTheme = {
    chosen,
    choose(theme) {
      try { localStorage.setItem("gemmary.theme", theme); } catch { /* kept for this page only */ }
      document.documentElement.dataset.theme =
        theme === "system" ? (system.matches ? "dark" : "light") : theme;
    },
  };
  apply();
})();
