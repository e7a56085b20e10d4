// How much was found after how many simulations.

import { h } from "./dom.js";
import { PALETTE, Plot } from "./plots.js";
import { number } from "./words.js";

/** @param {import("./study_model.js").StudyModel} model */
export function hypervolumePlot(model) {
  const place = h("div", { class: "plot small-plot", role: "img", "aria-labelledby": "search-title", "aria-describedby": "search-words" });
  const words = h("p", { id: "search-words", class: "note" });
  const element = h("section", { class: "card", id: "search", hidden: true, "aria-labelledby": "search-title" },
    h("h2", { id: "search-title" }, "How the search went"), h("figure", {}, place, h("figcaption", {}, words)));
  const plot = new Plot(place, () => {
    const last = model.hypervolume.at(-1);
    if (!last) return null;
    const steps = [...model.hypervolume, { simulated: Math.max(last.simulated, model.study.simulated), share: last.share }];
    return {
      data: [{
        type: "scatter", mode: "lines", x: steps.map(step => step.simulated), y: steps.map(step => 100 * step.share),
        line: { shape: "hv", width: 2, color: PALETTE[0] }, fill: "tozeroy", fillcolor: "rgba(47,123,214,0.12)",
        hovertemplate: "after %{x} simulated designs: %{y:.2f} %<extra></extra>",
      }],
      layout: { xaxis: { title: { text: "Simulated designs" }, rangemode: "tozero" }, yaxis: { title: { text: "Hypervolume (%)" }, rangemode: "tozero" } },
    };
  });
  return {
    element,
    update() {
      const last = model.hypervolume.at(-1);
      element.hidden = !last || !model.front.length;
      if (!last || element.hidden) return;
      const half = model.hypervolume.find(step => step.share >= 0.95 * last.share);
      words.textContent = `Hypervolume: the share of the box between the best and the worst feasible values that the front covers, now ${number(100 * last.share)} %. ` +
        (half ? `After ${number(half.simulated)} simulated designs it was within 5 % of that.` : "");
      plot.draw();
    },
    close() { plot.close(); },
  };
}
