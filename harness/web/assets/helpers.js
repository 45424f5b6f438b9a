// Elements, formats and data. Text from submissions reaches the page through text nodes only.

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const STEP = 20,
  LONG = 1500;
const ORDERS = { system_first: "shown first", reference_first: "shown second", none: "verdict" };

// An element with attributes and children; a string child becomes a text node, never markup.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Characters that would reorder the text around them, or that no font shows, are written out.
const visible = (text) =>
  text.replace(
    /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu,
    (c) => `\u27e8U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`,
  );
// Rounded as Python does it, so that 0.125 is 0.12 here as well: an exact half goes to the even digit.
function fixed(value, digits = 1) {
  if (value === null) return "–";
  const half = Math.abs(value * 2 ** (digits + 1)) % 2 === 1;
  const n = Math.round(value * 10 ** digits);
  return half && n % 2 ? ((n - 1) / 10 ** digits).toFixed(digits) : value.toFixed(digits);
}
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function select(label, options, change) {
  const control = el("select", { onchange: change }, ...options.map(([value, text]) => el("option", { value }, text)));
  return { control, label: el("label", {}, label, control) };
}

function search(label, change) {
  const control = el("input", { type: "search", oninput: change, autocomplete: "off", spellcheck: "false" });
  return { control, label: el("label", { class: "wide" }, label, control) };
}

// Closed on a phone, open where there is room.
function folded(summary, ...children) {
  return el("details", { class: "filters", open: matchMedia("(min-width: 46rem)").matches }, el("summary", {}, summary), ...children);
}

const filters = (...labels) => folded("Filter and sort", el("div", { class: "bar" }, ...labels));

const region = (label, ...children) =>
  el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...children);

// ---- answers: in this file, or in a script file beside it

const waiting = new Map();
window.implicitIf = (key, payload) => {
  waiting.get(key)?.(payload);
  waiting.delete(key);
};

function payload(key) {
  const held = document.getElementById(`payload-${key}`);
  if (held) return Promise.resolve(JSON.parse(held.textContent));
  return new Promise((resolve, reject) => {
    const script = el("script", { src: `${data.folder}/${key}.js` });
    waiting.set(key, resolve);
    script.addEventListener("load", () => script.remove());
    script.addEventListener("error", () => {
      script.remove();
      reject(
        new Error(
          `${data.folder}/${key}.js is not beside this page. Copy that folder along with it, or make it ` +
            "again: implicit-if leaderboard",
        ),
      );
    });
    document.head.append(script);
  });
}
