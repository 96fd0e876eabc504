// Loaded before the first paint, so that a theme never flashes: the chosen one, else the system's, also when that changes.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("affect.theme");
    } catch {
      // storage is switched off: the system's theme it is
    }
    document.documentElement.dataset.theme = chosen === "light" || chosen === "dark" ? chosen : system.matches ? "dark" : "light";
  };
  apply();
  system.addEventListener("change", apply);
})();
