"use strict";
// Every span knows its bytes (data-h), so its place in the text is the sum of those before it. Pointing at
// one marks the same bytes under the other tokenizers. All text goes in as text, never as markup.
(() => {
  const told = document.getElementById("told");
  const columns = [...document.querySelectorAll(".text")].map((box) => {
    const spans = [...box.children];
    const starts = [];
    let place = 0;
    spans.forEach((span, index) => {
      span.index = index;
      span.tip = span.title;
      span.removeAttribute("title"); // the panel says it, for the keyboard too
      starts.push(place);
      place += span.dataset.h.length / 2;
    });
    starts.push(place);
    return { box, spans, starts, name: box.dataset.name, here: -1 };
  });

  const firstBehind = (starts, place) => {
    let low = 0, high = starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (starts[middle] > place) high = middle; else low = middle + 1;
    }
    return low;
  };

  // The spans of a column that hold any of the bytes from start to stop.
  const overlapping = (column, start, stop) => {
    const found = [];
    for (let k = Math.max(0, firstBehind(column.starts, start) - 1); k < column.spans.length; k++) {
      if (column.starts[k] >= stop) break;
      if (column.starts[k + 1] > start) found.push(k);
    }
    return found;
  };

  let marked = [];
  const show = (column, index, scroll) => {
    marked.forEach((span) => span.classList.remove("here", "also"));
    marked = [];
    column.here = index;
    const start = column.starts[index], stop = Math.max(start + 1, column.starts[index + 1]);
    const lines = columns.map((other) => {
      const found = other === column ? [index] : overlapping(other, start, stop);
      for (const k of found) {
        const span = other.spans[k];
        span.classList.add(other === column ? "here" : "also");
        marked.push(span);
      }
      if (other !== column && found.length) other.here = found[0];
      const box = other.box;
      const first = other.spans[found[0]];
      if (first && (scroll || other !== column) && box.scrollHeight > box.clientHeight) {
        const inner = first.getBoundingClientRect(), outer = box.getBoundingClientRect();
        if (inner.top < outer.top + 8 || inner.bottom > outer.bottom - 8) {
          box.scrollTop += inner.top - outer.top - box.clientHeight / 2;
        }
      } else if (first && scroll && other === column) {
        first.scrollIntoView({ block: "nearest" });
      }
      const part = document.createElement("div");
      const head = document.createElement("b");
      head.textContent = other === column
        ? `${other.name}: ${index + 1} of ${other.spans.length}, byte ${start}` : other.name;
      const code = document.createElement("code");
      code.textContent = found.map((k) => other.spans[k].tip).join("\n");
      part.append(head, code);
      return part;
    });
    told.replaceChildren(...lines);
    told.hidden = false;
  };

  for (const column of columns) {
    column.box.addEventListener("pointerover", (event) => {
      const span = event.target.closest(".text > span");
      if (span && span.parentElement === column.box) show(column, span.index, false);
    });
    column.box.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const last = column.spans.length - 1;
      const next = {
        ArrowRight: Math.min(last, column.here + 1),
        ArrowLeft: Math.max(0, column.here - 1),
        Home: 0,
        End: last,
      }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      show(column, next, true);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") told.hidden = true;
  });
  for (const name of ["ids", "blanks"]) {
    const box = document.getElementById(name);
    const set = () => document.body.classList.toggle(name, box.checked);
    box.addEventListener("change", set);
    set();
  }
})();
