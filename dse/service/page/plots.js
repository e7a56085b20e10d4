// Plotly in the page's colours.

/** Colours of kinds, the same as in the report. */
export const PALETTE = ["#2f7bd6", "#d9620a", "#0a9a70", "#b457b0", "#a88a00", "#1596ab", "#d6455d", "#77808e"];
const FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif";

/** @type {Promise<any> | null} */
let asked = null;

/** Return Plotly, loaded when it is first needed. @returns {Promise<any>} */
export function plotly() {
  asked ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "./static/plotly.js";
    const restore = withoutForeignStyles();
    script.addEventListener("load", () => {
      restore();
      resolve(/** @type {any} */ (window).Plotly);
    });
    script.addEventListener("error", () => {
      restore();
      asked = null;
      reject(new Error("The charts could not be loaded."));
    });
    document.head.append(script);
  });
  return asked;
}

/**
 * Plotly brings the style sheet of a map library along, which the content security policy refuses and nothing here
 * needs: make what is made while it loads inert, instead of a refusal in the console.
 * @returns {() => void} ends it
 */
function withoutForeignStyles() {
  const create = document.createElement;
  document.createElement = (/** @type {string} */ tag, /** @type {any} */ options) =>
    create.call(document, tag === "style" ? "template" : tag, options);
  return () => { document.createElement = create; };
}

/** Return a colour of the style sheet. @param {string} name */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Return a text that Plotly shows as it is. @param {string} text */
export function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** @param {any} own @returns {any} */
function axis(own = {}) {
  return {
    gridcolor: colour("--grid"), linecolor: colour("--line"), tickcolor: colour("--line"), zeroline: false, ticks: "outside",
    automargin: true, ...own, title: { font: { size: 13 }, ...(own.title ?? {}) },
  };
}

/** Return a layout with the page's colours under one's own. @param {any} own */
export function layout(own) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: FONT, color: colour("--muted"), size: 13 },
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") }, align: "left" },
    hovermode: "closest", margin: { l: 56, r: 16, t: 12, b: 48 }, showlegend: false, dragmode: innerWidth > 640 ? "zoom" : false,
    ...own, xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
  };
}

/** Return the ticks 1, 2 and 5 of every decade; Plotly alone would write 20 as a small 2. @param {number} low @param {number} high exponents */
export function logTicks(low, high) {
  const digits = high - low < 2.2 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let decade = Math.floor(low) - 2; decade <= Math.ceil(high) + 2; decade += 1) {
    for (const digit of digits) ticks.push(Number(`${digit}e${decade}`));
  }
  return { tickvals: ticks, ticktext: ticks.map(tick => (tick >= 1e4 ? tick.toLocaleString("en-US") : String(tick))) };
}

/** A place for a figure that is drawn when it is seen, and again when the colours or the width change. */
export class Plot {
  /**
   * @param {HTMLElement} element empty, with a height of its own
   * @param {() => {data: any[], layout: any} | null} figure
   * @param {{bar?: boolean, onClick?: (tag: any) => void}} [options]
   */
  constructor(element, figure, { bar = false, onClick } = {}) {
    this.element = element;
    this.figure = figure;
    this.bar = bar;
    this.onClick = onClick;
    this.seen = false;
    this.closed = false;
    this.listening = false;
    this.width = 0;
    this._scheme = matchMedia("(prefers-color-scheme: dark)");
    this._again = () => this.draw();
    this._scheme.addEventListener("change", this._again);
    this._watcher = new IntersectionObserver(entries => {
      if (!entries.some(entry => entry.isIntersecting) || this.seen) return;
      this.seen = true;
      this.draw();
    }, { rootMargin: "300px" });
    this._watcher.observe(element);
    this._sizes = new ResizeObserver(() => {
      if (this.seen && element.clientWidth && element.clientWidth !== this.width) this.draw();
    });
    this._sizes.observe(element);
  }

  /** Draw what the figure is now, if anyone sees it. */
  async draw() {
    if (!this.seen || this.closed) return;
    try {
      const library = await plotly();
      const figure = this.figure();
      if (this.closed || !figure || !this.element.clientWidth) return;
      this.width = this.element.clientWidth;
      await library.react(this.element, figure.data, { ...layout(figure.layout), width: this.width, height: this.element.clientHeight }, {
        displaylogo: false, showSendToCloud: false, displayModeBar: this.bar && innerWidth > 640 ? "hover" : false,
        modeBarButtonsToRemove: ["select2d", "lasso2d", "pan2d", "zoom2d", "autoScale2d"], scrollZoom: false,
      });
      if (this.onClick && !this.listening) {
        this.listening = true;
        /** @type {any} */ (this.element).on("plotly_click", (/** @type {any} */ event) => this.onClick?.(event.points[0]?.customdata));
      }
    } catch (error) {
      if (!this.closed) this.element.textContent = /** @type {Error} */ (error).message;
    }
  }

  close() {
    this.closed = true;
    this._scheme.removeEventListener("change", this._again);
    this._watcher.disconnect();
    this._sizes.disconnect();
    /** @type {any} */ (window).Plotly?.purge(this.element);
  }
}
