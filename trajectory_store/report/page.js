"use strict";
(() => {
  const hover = JSON.parse(document.getElementById("hover").textContent);
  const shown = new Intl.NumberFormat("en", {maximumSignificantDigits: 5});
  const whole = new Intl.NumberFormat("en");
  const text = (value, unit) => {
    if (value === null) return "not finite";
    if (unit === "%") return (value * 100).toFixed(1) + " %";
    const small = value !== 0 && Math.abs(value) < 1e-3;
    return (small ? value.toExponential(2) : shown.format(value)) + (unit ? " " + unit : "");
  };
  const last = (sorted, value) => {  // index of the last entry that is not above the value
    let lo = 0, hi = sorted.length - 1;
    while (lo < hi) {
      const middle = (lo + hi + 1) >> 1;
      if (sorted[middle] <= value) lo = middle; else hi = middle - 1;
    }
    return lo;
  };
  const range = (from, to) =>
    from >= to ? "step " + whole.format(from) : "steps " + whole.format(from) + " to " + whole.format(to);

  const kinds = {
    curves(both, at) {
      const data = both[at.axis];
      let index = last(data.steps, at.x);
      const next = index + 1;
      if (next < data.steps.length && data.steps[next] - at.x < at.x - data.steps[index]) index = next;
      return {
        x: data.steps[index],
        head: "step " + whole.format(Math.round(data.steps[index])),
        lines: data.columns.map(([name, values, unit]) => [name, text(values[index], unit)]),
      };
    },
    bars(data, at) {
      const {edges, counts} = data[at.axis];
      const bar = Math.min(last(edges, at.x + 0.5), counts.length - 1);
      return {x: at.x, head: range(edges[bar], edges[bar + 1] - 1), lines: [["tokens", whole.format(counts[bar])]]};
    },
    heat(data, at) {
      const {edges, rows} = data[at.axis];
      const column = Math.min(last(edges, at.x + 0.5), edges.length - 2);
      const row = Math.min(last(rows, at.y), rows.length - 2);
      const [from, to] = [rows[row], rows[row + 1] - 1];
      const index = at.pixel(at.share, row);
      const level = Math.pow(data.hottest / data.coldest, (index - 1) / 253) * data.coldest;
      const value = index === null ? null : index === 0 ? "0 ULP" : index === 255 ? "not finite" :
        (index === 1 ? "≤ " : index === 254 ? "≥ " : "") + text(Number(level.toPrecision(2)), "ULP");
      const names = data.tokens.slice(from, Math.min(to + 1, from + 3)).join(", ") + (to - from > 2 ? ", …" : "");
      const lines = [[to > from ? "tokens" : "token", names],
        ["last move at", data.onset[from] === data.onset[to] ? whole.format(data.onset[from]) :
          whole.format(data.onset[from]) + " to " + whole.format(data.onset[to])]];
      if (value !== null) lines.push(["mean move", value]);
      return {x: at.x, head: range(edges[column], edges[column + 1] - 1), lines};
    },
    ways(data, at) {
      let best = null;
      data.x.forEach((xs, way) => xs.forEach((x, index) => {
        if (x === null) return;
        const distance = Math.hypot((x - at.x) / at.unit, (data.y[way][index] - at.y) / at.unit);
        if (best === null || distance < best.distance) best = {distance, way, index};
      }));
      if (best === null || best.distance > 30) return null;
      return {x: data.x[best.way][best.index], head: data.names[best.way],
        lines: [["step", whole.format(data.steps[best.index])], ["last move at", whole.format(data.onset[best.way])]]};
    },
  };

  const colours = new Map((hover.palette || []).map((colour, index) => [colour.join(), index]));
  const canvases = new WeakMap();
  const pixelOf = (svg) => (share, row) => {
    const image = svg.querySelector("image");
    if (!canvases.has(image)) {
      canvases.set(image, null);
      const picture = new Image();
      picture.onload = () => {
        const canvas = document.createElement("canvas");
        canvas.width = picture.naturalWidth;
        canvas.height = picture.naturalHeight;
        const context = canvas.getContext("2d", {willReadFrequently: true});
        context.drawImage(picture, 0, 0);
        canvases.set(image, context);
      };
      picture.src = image.getAttribute("href");
    }
    const context = canvases.get(image);
    if (!context) return null;
    const column = Math.min(Math.floor(share * context.canvas.width), context.canvas.width - 1);
    const index = colours.get(Array.from(context.getImageData(column, row, 1, 1).data.slice(0, 3)).join());
    return index === undefined ? null : index;
  };

  const place = (svg, event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const data = Object.fromEntries(Object.entries(svg.dataset).map(([name, value]) => [name, Number(value)]));
    const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
    if (px < data.x0 - 4 || px > data.x1 + 4 || py < data.y0 || py > data.y1) return null;
    const share = Math.min(1, Math.max(0, (px - data.x0) / (data.x1 - data.x0)));
    const down = (py - data.y0) / (data.y1 - data.y0);
    const {lo, hi} = data;
    const position = (x) => data.x0 + (data.x1 - data.x0) *
      (data.log ? Math.log(Math.max(x, lo) / lo) / Math.log(hi / lo) : (x - lo) / (hi - lo));
    return {
      x: data.log ? lo * Math.pow(hi / lo, share) : lo + (hi - lo) * share,
      y: data.top + (data.bottom - data.top) * down,
      unit: (hi - lo) / (data.x1 - data.x0),
      axis: data.log ? "log" : "linear",
      pixel: pixelOf(svg),
      share, position, data,
    };
  };

  const clear = (plot) => {
    plot.querySelector(".tip").hidden = true;
    plot.querySelectorAll(".cross").forEach((cross) => cross.remove());
  };
  const point = (plot, event) => {
    clear(plot);
    const svg = event.target.closest("svg.chart");
    const at = svg && place(svg, event);
    const data = hover.charts[plot.dataset.chart];
    const found = at && kinds[data.kind](data, at);
    if (!found) return;
    const cross = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const x = Math.min(at.data.x1, Math.max(at.data.x0, at.position(found.x))).toFixed(1);
    cross.setAttribute("class", "cross");
    cross.setAttribute("d", "M" + x + " " + at.data.y0 + "V" + at.data.y1);
    svg.append(cross);
    const tip = plot.querySelector(".tip"), head = document.createElement("b");
    head.textContent = found.head;
    tip.replaceChildren(head);
    for (const [name, value] of found.lines) {
      const line = document.createElement("div");
      line.textContent = name + ": " + value;
      tip.append(line);
    }
    tip.hidden = false;
    const box = plot.getBoundingClientRect(), left = event.clientX - box.left;
    const beside = left + 16 + tip.offsetWidth > box.width ? left - 16 - tip.offsetWidth : left + 16;
    tip.style.left = Math.max(0, beside) + "px";
    tip.style.top = Math.max(0, event.clientY - box.top - tip.offsetHeight - 12) + "px";
  };

  for (const plot of document.querySelectorAll(".plot")) {
    if (!(plot.dataset.chart in hover.charts)) continue;
    plot.addEventListener("pointermove", (event) => point(plot, event));
    plot.addEventListener("pointerdown", (event) => point(plot, event));
    plot.addEventListener("pointerleave", () => clear(plot));
  }
  for (const button of document.querySelectorAll(".scale button")) {
    button.addEventListener("click", () => {
      const isLog = button.value === "log", figure = button.closest("figure");
      figure.classList.toggle("is-log", isLog);
      figure.querySelectorAll(".scale button").forEach((other) =>
        other.setAttribute("aria-pressed", String(other === button)));
      clear(figure.querySelector(".plot"));
    });
  }
  document.documentElement.classList.add("has-script");
})();
