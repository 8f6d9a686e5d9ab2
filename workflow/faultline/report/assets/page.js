"use strict";

// Everything here is an addition: without it the page reads, prints and hovers by itself.

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const escaped = (words) => make("b", { textContent: words }).innerHTML;

const tools = (...children) => make("div", { className: "tools" }, ...children);

const save = (name, blob) => {
  const link = make("a", { download: name, href: URL.createObjectURL(blob) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

const saveUrl = (name, href) => make("a", { download: name, href }).click();

const fileName = (text) => text.toLowerCase().replace(/[^\w.]+/g, "-").replace(/^-+|-+$/g, "");

// Tables: sort, filter, copy, save

const number = (words) => {
  const found = words.replaceAll("\u2212", "-").replaceAll(",", "").match(/^[[<\s]*([+-]?[\d.]+(e[+-]?\d+)?)/i);
  return found ? parseFloat(found[1]) : NaN;
};

// Numbers by size, other words after them.
const compare = (a, b) => {
  const [x, y] = [number(a), number(b)];
  if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || a.localeCompare(b, "en", { numeric: true });
  return x - y;
};

const sortBy = (table, column, heading) => {
  const down = heading.ariaSort === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => [row.cells[column].textContent.trim(), row]);
  rows.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
};

// As a spreadsheet may safely open it: words that it would compute stand behind an apostrophe.
const harmless = (words) => (/^[=+\-@\uff1d\uff0b\uff0d\uff20]./.test(words) && isNaN(Number(words)) ? `'${words}` : words);

// What is shown, in its order.
const tsv = (table) =>
  [...table.rows]
    .filter((row) => !row.hidden)
    .map((row) => [...row.cells].map((cell) => harmless(cell.textContent.trim().replace(/\s+/g, " "))).join("\t"))
    .join("\n") + "\n";

const copy = async (words) => {
  try {
    await navigator.clipboard.writeText(words);
  } catch {
    const area = make("textarea", { value: words });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
};

const equip = (table) => {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = make("button", { type: "button", title: "Sort" }, heading.textContent);
    button.onclick = () => sortBy(table, column, heading);
    heading.replaceChildren(button);
  });
  const filter = make("input", { type: "search", placeholder: "Filter rows" });
  filter.setAttribute("aria-label", "Filter rows");
  filter.oninput = () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    for (const row of table.tBodies[0].rows) {
      const cells = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => cells.includes(word));
    }
  };
  const copied = make("button", { type: "button", textContent: "Copy" });
  copied.onclick = async () => {
    await copy(tsv(table));
    copied.textContent = "Copied";
    setTimeout(() => (copied.textContent = "Copy"), 1500);
  };
  const saved = make("button", { type: "button", textContent: "TSV" });
  const name = fileName(table.closest("section").id + " " + table.dataset.title) + ".tsv";
  saved.onclick = () => save(name, new Blob([tsv(table)], { type: "text/tab-separated-values" }));
  const many = table.tBodies[0].rows.length > 3;
  table.parentElement.before(tools(...(many ? [filter] : []), copied, saved));
};

for (const table of document.querySelectorAll("table[data-title]")) equip(table);

// Figures: save, zoom, hover

const asText = (svg) => {
  const whole = svg.cloneNode(true);
  whole.setAttribute("style", "background: #fdfdfc");
  return new XMLSerializer().serializeToString(whole);
};

// Pictures in a table, as they stand.
const picturesAsText = (table) => {
  const all = table.getBoundingClientRect();
  const parts = [...table.querySelectorAll("img")].map((image) => {
    const box = image.getBoundingClientRect();
    return `<image href="${image.src}" x="${box.x - all.x}" y="${box.y - all.y}" width="${box.width}" ` +
      `height="${box.height}" style="image-rendering: pixelated"/>`;
  });
  const walker = document.createTreeWalker(table, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    // a line of text at a time, as it is broken on the page
    const { data, parentElement } = walker.currentNode;
    const bold = getComputedStyle(parentElement).fontWeight;
    let at = null;
    for (const word of data.matchAll(/\S+/g)) {
      range.setStart(walker.currentNode, word.index);
      range.setEnd(walker.currentNode, word.index + word[0].length);
      const box = range.getBoundingClientRect();
      if (at?.bottom === box.bottom) at.words += ` ${word[0]}`;
      else parts.push((at = { words: word[0], x: box.x - all.x, y: box.bottom - all.y - 3.5, bottom: box.bottom, bold }));
    }
  }
  const inner = parts.map((part) =>
    part.words ? `<text x="${part.x}" y="${part.y}" font-weight="${part.bold}">${escaped(part.words)}</text>` : part);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${all.width}" height="${all.height}" font-size="12.5" ` +
    `font-family="sans-serif" style="background: #fdfdfc">${inner.join("")}</svg>`;
};

const savePng = (text, name) => {
  const image = new Image();
  image.onload = () => {
    const { width, height } = image;
    const canvas = make("canvas", { width: 3 * width, height: 3 * height });
    const context = canvas.getContext("2d");
    context.fillStyle = "#fdfdfc";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    saveUrl(name, canvas.toDataURL("image/png"));
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
};

// Drag over a part to see it larger, double-click to see all.
const zoomable = (svg) => {
  const all = svg.getAttribute("viewBox");
  const at = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  let start = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button === 0) start = at(event);
  });
  svg.addEventListener("pointerup", (event) => {
    if (!start) return;
    const end = at(event);
    const [width, height] = [Math.abs(end.x - start.x), Math.abs(end.y - start.y)];
    if (width > 8 && height > 8) {
      svg.setAttribute("viewBox", [Math.min(start.x, end.x), Math.min(start.y, end.y), width, height].join(" "));
      svg.classList.add("zoomed");
      getSelection().removeAllRanges();
    }
    start = null;
  });
  svg.addEventListener("dblclick", () => {
    svg.setAttribute("viewBox", all);
    svg.classList.remove("zoomed");
  });
};

const equipFigure = (figure) => {
  const [map, pictures, svg] = [".faultmap", ".pictures", "svg"].map((kind) => figure.querySelector(kind));
  const text = map ? equipMap(map) : pictures ? () => picturesAsText(pictures) : () => asText(svg);
  const button = (label, onclick) => make("button", { type: "button", textContent: label, onclick });
  const name = fileName(figure.id);
  for (const each of figure.querySelectorAll("svg")) if (each.querySelector("* > title")) each.tabIndex = 0;
  const row = tools(
    button("SVG", () => save(`${name}.svg`, new Blob([text()], { type: "image/svg+xml" }))),
    button("PNG", () => savePng(text(), `${name}.png`)),
  );
  figure.append(row);
  if (map || pictures) return;
  row.append(make("span", { className: "small" }, "drag: zoom; double-click: all; arrow keys: values"));
  zoomable(svg);
};

const unpack = async (box) => {
  const bytes = Uint8Array.from(atob(box.dataset.packed), (letter) => letter.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  box.innerHTML = await new Response(plain).text();
  delete box.dataset.packed;
};

// Packed ones one after the other, so that the page is there at once, those near the screen first.
const equipFigures = async () => {
  for (const figure of document.querySelectorAll("figure[id]:not(:has([data-packed]))")) equipFigure(figure);
  const near = new Set();
  const watch = new IntersectionObserver(
    (entries) => entries.forEach(({ target, isIntersecting }) => near[isIntersecting ? "add" : "delete"](target)),
    { rootMargin: "50%" },
  );
  document.querySelectorAll("[data-packed]").forEach((box) => watch.observe(box));
  const next = () => [...near].find((box) => box.dataset.packed) ?? document.querySelector("[data-packed]");
  for (let box; (box = next()); ) {
    await new Promise((resolve) => setTimeout(resolve));
    watch.unobserve(box);
    await unpack(box);
    equipFigure(box.parentElement);
  }
};
equipFigures();

// The titles of marks at once, for fingers and keys too. They are taken away meanwhile, or they would show twice.
const tip = make("div", { id: "tip", hidden: true, role: "status" });
document.body.append(tip);
let told = null;
const titleOf = (mark) => mark && [...mark.children].find((child) => child.localName === "title");

const tell = (mark, x, y) => {
  if (told) {
    told.mark.append(told.title);
    told.mark.classList.remove("told");
    told = null;
  }
  const title = titleOf(mark);
  tip.hidden = !title;
  if (!title) return;
  told = { mark, title };
  title.remove();
  tip.textContent = title.textContent;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
  tip.style.top = `${Math.max(4, y - box.height - 10)}px`;
};
document.addEventListener("pointerover", (event) => tell(event.target.closest("svg *"), event.clientX, event.clientY));

// Arrow keys go from mark to mark of a figure, Home and End to its first and last.
const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
document.addEventListener("keydown", (event) => {
  const svg = event.target.closest("figure svg");
  if (!svg || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape") tell(null);
  if (!(event.key in steps)) return;
  const marks = [...svg.querySelectorAll("*")].filter((mark) => mark === told?.mark || titleOf(mark));
  if (!marks.length) return;
  event.preventDefault();
  const at = marks.indexOf(told?.mark), step = steps[event.key];
  const next = at < 0 && step === -1 ? marks.length - 1 : at + step;
  const mark = marks[Math.max(0, Math.min(next, marks.length - 1))];
  mark.scrollIntoView({ block: "nearest", inline: "nearest" });
  const box = mark.getBoundingClientRect();
  tell(mark, box.right, box.top);
  mark.classList.add("told");
});
document.addEventListener("focusout", () => tell(null));

// Contents: where one is

const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(target.id)?.setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-10% 0px -85% 0px" },
);
for (const section of document.querySelectorAll("main section[id]")) seen.observe(section);

// What is folded opens where a link leads to it.
const unfold = () => {
  for (let at = document.getElementById(location.hash.slice(1)); at; at = at.parentElement) {
    if (at.localName === "details") at.open = true;
    at.querySelector(":scope > details.folded")?.setAttribute("open", "");
    if (at.localName === "section") break;
  }
};
addEventListener("hashchange", unfold);
unfold();

// Browsers whose style sheets cannot open details in print.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not(.folded, .folded:not([open]) *)")) details.open = true;
});
