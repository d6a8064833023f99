"use strict";
// Only opens, filters and highlights: everything is in the HTML, and is readable without this.
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const kept = {
    get() { try { return localStorage.getItem("testbed-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("testbed-theme", value); } catch { /* a file's page may have no storage */ } },
  };
  const chosen = kept.get();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  function theme() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const show = () => button.setAttribute("aria-pressed", String(dark()));
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      kept.set(root.dataset.theme);
      show();
    });
    system.addEventListener("change", show);
    show();
  }

  function filters(form) {
    const table = document.getElementById(form.dataset.table);
    const rows = Array.from(table.tBodies[0].rows);
    const texts = new Map();
    const output = form.querySelector("output");
    const apply = () => {
      let shown = 0;
      const wanted = Array.from(form.elements).filter((one) => one.name && one.value);
      for (const row of rows) {
        const fits = wanted.every((one) => {
          if (one.name !== "text") return row.dataset[one.name] === one.value;
          if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
          return texts.get(row).includes(one.value.toLowerCase());
        });
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      }
      output.textContent = `${shown} of ${rows.length} shown`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.apply = apply;
    apply();
    for (const button of form.querySelectorAll("[data-open]")) {
      button.addEventListener("click", () => {
        const open = button.textContent === "Open all";
        for (const row of rows) if (!row.hidden) for (const one of row.querySelectorAll("details")) one.open = open;
        button.textContent = open ? "Close all" : "Open all";
      });
    }
  }

  function containers() {
    const form = document.querySelector('form[data-table="log-table"]');
    for (const link of document.querySelectorAll("a[data-container]")) {
      link.addEventListener("click", () => {
        if (!form) return;
        form.reset();
        form.elements.namedItem("container").value = link.dataset.container;
        form.apply();
      });
    }
  }

  function marks() {
    const tip = document.getElementById("tip");
    let timer = 0;
    const hide = () => { tip.hidden = true; };
    const later = () => { timer = setTimeout(hide, 200); };
    const show = (mark) => {
      clearTimeout(timer);
      tip.textContent = mark.getAttribute("aria-label");
      tip.hidden = false;
      const box = mark.getBoundingClientRect();
      const left = Math.min(box.left + box.width / 2, root.clientWidth - tip.offsetWidth - 8);
      const below = box.bottom + 8 + tip.offsetHeight < root.clientHeight;
      tip.style.left = `${Math.max(8, left) + scrollX}px`;
      tip.style.top = `${(below ? box.bottom + 6 : box.top - tip.offsetHeight - 6) + scrollY}px`;
    };
    for (const figure of document.querySelectorAll(".figure svg")) {
      const all = Array.from(figure.querySelectorAll(".mark"));
      all.forEach((mark, place) => {
        // One stop for the keyboard; the browser's own tooltip would be a second one.
        mark.setAttribute("tabindex", place ? "-1" : "0");
        mark.querySelector("title").remove();
        mark.addEventListener("mouseenter", () => show(mark));
        mark.addEventListener("mouseleave", later);
        mark.addEventListener("focus", () => show(mark));
        mark.addEventListener("blur", hide);
        mark.addEventListener("keydown", (event) => {
          const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
          const to = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : step ? place + step : -1;
          if (!all[to]) return;
          event.preventDefault();
          mark.setAttribute("tabindex", "-1");
          all[to].setAttribute("tabindex", "0");
          all[to].focus();
        });
      });
    }
    tip.addEventListener("mouseenter", () => clearTimeout(timer));
    tip.addEventListener("mouseleave", later);
    addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  }

  function target() {
    const goal = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!goal) return;
    if (goal.hidden) {
      for (const form of document.querySelectorAll("form[data-table]")) { form.reset(); form.apply(); }
    }
    for (let one = goal.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
    const own = goal.matches("tr") && goal.querySelector("details");
    if (own) own.open = true;
    goal.scrollIntoView();
  }

  document.addEventListener("DOMContentLoaded", () => {
    theme();
    document.querySelectorAll("form[data-table]").forEach(filters);
    containers();
    marks();
    target();
    addEventListener("hashchange", target);
  });
})();
