// Switches each fault map between its scores, weights and seeds, and gives it as one file. It draws what
// faultline/studies/map/drawing.py draws; the data stand in the page beside each map.
const equipMap = (map) => {
  const data = JSON.parse(map.querySelector("script").textContent);
  const tenths = (x) => String(Math.round(x * 10) / 10);
  const signed = (value, step, digits) => {
    const size = Math.floor((Math.abs(value) + Math.floor(step / 2)) / step);
    const text = (size / 10 ** digits).toFixed(digits);
    return size ? (value > 0 ? "+" : "\u2212") + text : text;
  };
  const undecided = (letter) => letter !== letter.toUpperCase();
  const word = (letter) => data.words[letter.toUpperCase()];

  const line = (view, score, i) => {
    const letter = view.classes[i] || ".";
    if (letter === ".") return `${score}: none`;
    const [value, low, high] = [view.value[i], view.low[i], view.high[i]];
    let text = `${score}: `;
    if (value !== null)
      text += `${signed(value, 1, 3)} [${signed(low, 1, 3)}, ${signed(high, 1, 3)}], `;
    text += word(letter) + (undecided(letter) ? ", not decided" : "") + `; ${view.n}`;
    const said = [...data.strip].flatMap((one, k) => {
      const count = view.strips[i]?.[k];
      return count ? [`${count} ${word(one)}${undecided(one) ? " (not decided)" : ""}`] : [];
    });
    return said.length ? `${text}\n${data.units[i]}: ${said.join(", ")}` : text;
  };

  const path = (letter, d) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
    made.setAttribute("class", letter);
    made.setAttribute("d", d);
    return made;
  };
  const strip = (counts, width) => {
    if (!counts) return [path("N", `M0 0h${tenths(width)}v3.5H0z`)];
    const size = width / counts.reduce((a, b) => a + b);
    const gap = size >= 2.5 ? 0.5 : 0;
    const made = [];
    let done = 0;
    [...data.strip].forEach((letter, k) => {
      if (!counts[k]) return;
      let d = "";
      for (let j = 0; j < counts[k]; j += gap ? 1 : counts[k]) {
        const [x, long] = [(done + j) * size, (gap ? 1 : counts[k]) * size - gap];
        d += `M${tenths(x)} 0h${tenths(long)}v3.5H${tenths(x)}z`;
      }
      made.push(path(letter, d));
      done += counts[k];
    });
    return made;
  };

  // Where a title shows at once, it is taken out of its mark meanwhile.
  const titles = new Map(
    [...map.querySelectorAll(".layer")].map((layer) => [layer, layer.querySelector("title")]));

  const show = ([s, w, d]) => {
    const view = data.views[s][w][d];
    const seed = data.seeds[d] === "all" ? "all seeds" : `seed ${data.seeds[d]}`;
    map.querySelector(".shown").textContent =
      `${data.scores[s]}, ${data.weights[w]}, ${seed}: ${view.n}`;
    for (const layer of map.querySelectorAll(".layer")) {
      const i = Number(layer.dataset.layer);
      const letter = view.classes[i] || ".";
      const value = view.value[i] ?? null;
      const wide = Number(layer.querySelector(".body").getAttribute("width"));
      const title = titles.get(layer);
      const holder = layer.querySelector(".strip");
      layer.setAttribute("class", `layer ${letter === "." ? "N" : letter}`);
      title.textContent = `${title.textContent.split("\n")[0]}\n${line(view, data.scores[s], i)}`;
      layer.querySelector(".bar").setAttribute(
        "width", tenths(value === null ? 0 : ((wide - 20) * Math.abs(value)) / data.scale));
      layer.querySelector(".letter").textContent =
        (data.signs[letter.toUpperCase()] || "") + (undecided(letter) ? "?" : "");
      layer.querySelector(".score").textContent = value === null ? "" : signed(value, 10, 2);
      holder.replaceChildren(...strip(view.strips[i], Number(holder.dataset.width)));
    }
  };

  // The parts as they stand, in one file.
  const whole = () => {
    const parts = map.querySelector(".parts").getBoundingClientRect();
    const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules])
      .filter((rule) => rule.selectorText?.includes(".faultmap")).map((rule) => rule.cssText);
    const inner = [...map.querySelectorAll(".part svg")].map((svg) => {
      const [copy, box] = [svg.cloneNode(true), svg.getBoundingClientRect()];
      copy.setAttribute("x", box.x - parts.x);
      copy.setAttribute("y", box.y - parts.y + 24);
      return new XMLSerializer().serializeToString(copy);
    });
    return `<svg xmlns="http://www.w3.org/2000/svg" class="faultmap" width="${parts.width}" ` +
      `height="${parts.height + 24}" font-family="sans-serif" style="${map.getAttribute("style")};color:#1f2937;` +
      `background:#fff;--paper:#fff"><style>${rules.join("\n").replaceAll("<", "\\3c ")}</style>` +
      `<text y="14" font-size="12">${escaped(map.querySelector(".shown").textContent)}</text>${inner.join("")}</svg>`;
  };
  const chosen = [...data.chosen];
  const bar = document.createElement("div");
  bar.className = "switch";
  [["score", data.scores], ["weights", data.weights], ["seed", data.seeds]].forEach(([name, all], k) => {
    if (all.length < 2) return;
    const label = document.createElement("label");
    const select = document.createElement("select");
    all.forEach((text, i) => select.add(new Option(text, i, i === chosen[k], i === chosen[k])));
    select.addEventListener("change", () => {
      chosen[k] = Number(select.value);
      show(chosen);
    });
    label.append(`${name} `, select);
    bar.append(label);
  });
  map.insertBefore(bar, map.querySelector(".shown"));
  return whole;
};
