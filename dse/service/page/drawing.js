// The drawing of a deployment, with nothing in it but shapes and words.

const SHAPES = new Set(["svg", "g", "rect", "path", "line", "circle", "ellipse", "polyline", "polygon", "text", "tspan", "title", "desc", "defs", "marker"]);
const ATTRIBUTES = /^(class|role|id|viewBox|preserveAspectRatio|width|height|x|y|x1|y1|x2|y2|dx|dy|cx|cy|r|rx|ry|d|points|transform|fill|fill-opacity|stroke|stroke-width|stroke-opacity|stroke-dasharray|stroke-linecap|stroke-linejoin|opacity|color|font-family|font-size|font-weight|text-anchor|dominant-baseline|marker-(start|mid|end)|marker(Width|Height)|ref[XY]|orient|aria-label(ledby)?|xml:space)$/;
const REFERENCE = /url\(\s*(?!["']?#)/i;

/** Return a drawing as an element; null if it is none. @param {string} text SVG */
export function drawing(text) {
  const parsed = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  if (parsed.localName !== "svg") return null;
  for (const node of [parsed, ...parsed.querySelectorAll("*")]) {
    if (!SHAPES.has(node.localName) || node.namespaceURI !== "http://www.w3.org/2000/svg") {
      node.remove();
      continue;
    }
    for (const { name, value } of [...node.attributes]) {
      if (name !== "xmlns" && (!ATTRIBUTES.test(name) || REFERENCE.test(value))) node.removeAttribute(name);
    }
  }
  return document.importNode(parsed, true);
}
