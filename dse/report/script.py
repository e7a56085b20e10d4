"""The report's script: draws the visible figures, gives their values as CSV, switches designs, sorts tables."""

JS = """
(() => {
  "use strict";
  const root = document.documentElement;
  const {shared, figures} = JSON.parse(document.getElementById("report-data").textContent);
  const config = plot => ({responsive: true, displaylogo: false, showSendToCloud: false,
    displayModeBar: plot.dataset.figure.startsWith("front") && innerWidth > 640,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "pan2d", "zoom2d"]});

  // "--name" is a colour of the style sheet; {"$": key} a shared value, with "at" a choice of its elements.
  const resolve = value => {
    if (typeof value === "string")
      return value.startsWith("--") ? getComputedStyle(root).getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(resolve);
    if (value === null || typeof value !== "object") return value;
    if ("$" in value) return resolve("at" in value ? value.at.map(i => shared[value.$][i]) : shared[value.$]);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item)]));
  };

  const heard = new Set(), fresh = new Set();
  const draw = plot => {
    const figure = resolve(figures[plot.dataset.figure]);
    // On a telephone the title of an axis takes two lines.
    const title = figure.layout.xaxis?.title;
    if (title?.text && plot.clientWidth < 460) title.text = title.text.replace(/, (lower|higher)/, "<br>$1");
    // Printing does not wait for a figure that finds its width by itself.
    if (root.classList.contains("paper")) figure.layout.width = plot.clientWidth;
    Plotly.react(plot, figure.data, figure.layout, config(plot));
    fresh.add(plot);
    if (heard.has(plot)) return;
    heard.add(plot);
    plot.on("plotly_click", event => {
      const tag = event.points[0].customdata;
      if (tag && choice && [...choice.options].some(option => option.value === tag)) show(tag, true);
    });
  };
  // What was hidden may have missed a change of the window's width.
  const refresh = () => document.querySelectorAll(".plot").forEach(plot => {
    if (plot.closest("[hidden]")) return;
    if (fresh.has(plot)) Plotly.Plots.resize(plot); else draw(plot);
  });
  const redraw = () => { fresh.clear(); refresh(); };

  // One panel of a group is visible at a time: designs, and pairs of objectives.
  const switcher = select => {
    const panels = [...document.querySelectorAll(`[data-group="${select.id}"]`)];
    const pick = () => panels.forEach(panel => { panel.hidden = panel.dataset.panel !== select.value; });
    const update = () => { pick(); refresh(); };
    select.addEventListener("change", update);
    pick();
    return update;
  };
  const updates = new Map([...document.querySelectorAll("select.switch")].map(s => [s.id, switcher(s)]));
  const choice = document.getElementById("design");
  const show = (tag, scroll) => {
    choice.value = tag;
    updates.get("design")();
    if (scroll) document.getElementById("designs").scrollIntoView();
  };
  document.querySelectorAll("[data-show]").forEach(link =>
    link.addEventListener("click", () => show(link.dataset.show, false)));

  document.querySelectorAll("table.sortable").forEach(table => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => {
        const cell = row.cells[column];
        return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
      };
      const order = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b);
      const rows = [...table.tBodies[0].rows].sort((a, b) => order(key(a), key(b)) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    }));
  });

  // The values of a figure as they are drawn, a line each.
  const text = value => new DOMParser().parseFromString(String(value).replace(/<br>/g, " "), "text/html")
    .body.textContent;
  const cell = value => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    // A spreadsheet would take some words for formulas.
    const said = text(value).replace(/^[=+@\\t\\r-]/, "'$&");
    return /[",\\n]/.test(said) ? `"${said.replace(/"/g, '""')}"` : said;
  };
  const lines = ({data, layout}) => {
    const title = axis => layout.meta?.[axis[0]] ?? layout[axis]?.title?.text ?? axis[0];
    const extra = ["base", "z", "hovertext"].filter(key => data.some(trace => Array.isArray(trace[key])));
    const names = {base: "from", z: "value", hovertext: "design"};
    const rows = [["series", title("xaxis"), title("yaxis"), ...extra.map(key => names[key])]];
    for (const trace of data) {
      const {x = [], y = [], z} = trace;
      if (Array.isArray(z)) {
        z.forEach((line, j) => line.forEach((value, i) => rows.push([trace.name ?? "", x[i] ?? i, y[j] ?? j, value])));
        continue;
      }
      for (let i = 0; i < Math.max(x.length, y.length); i++)
        rows.push([trace.name ?? "", x[i], y[i], ...extra.map(key => trace[key]?.[i])]);
    }
    return rows.map(row => row.map(cell).join(",")).join("\\n") + "\\n";
  };
  document.querySelectorAll(".plot").forEach(plot => {
    const link = document.createElement("a"), key = plot.dataset.figure;
    Object.assign(link, {className: "csv", href: "#", download: `${key}.csv`, textContent: "CSV"});
    link.setAttribute("aria-label", `Values of this figure as CSV: ${plot.getAttribute("aria-label")}`);
    link.addEventListener("click", () => {
      if (link.href.startsWith("blob:")) return;
      link.href = URL.createObjectURL(new Blob([lines(resolve(figures[key]))], {type: "text/csv"}));
    });
    plot.after(link);
  });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  // On paper everything has the paper's width and light colours, and nothing is folded.
  const folded = new Set();
  const paper = on => {
    root.classList.toggle("paper", on);
    if (on) document.querySelectorAll("details:not([open])").forEach(part => { part.open = true; folded.add(part); });
    else { folded.forEach(part => { part.open = false; }); folded.clear(); }
    redraw();
  };
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));
  refresh();
})();
"""
