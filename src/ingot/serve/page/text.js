/*
 * Shows an answer's text: paragraphs, `code` within them, and fenced code blocks. Everything else stays
 * as it was written. Only text nodes are made, so nothing that a model says can become markup.
 */

import { copier, element } from "./made.js";

const FENCE = /^ {0,3}```([\w+#.-]*)[^\n`]*$/;

/* Splits text into {code: boolean, language, text}; a fence that is still open counts as code. */
function blocks(text) {
  const found = [];
  let block = null;
  for (const line of text.split("\n")) {
    const fence = line.match(FENCE);
    if (fence && block?.code) {
      block = null;
    } else if (fence) {
      found.push(block = { code: true, language: fence[1], lines: [] });
    } else {
      if (!block) found.push(block = { code: false, lines: [] });
      block.lines.push(line);
    }
  }
  return found
    .map(({ code, language, lines }) => ({ code, language, text: lines.join("\n") }))
    .filter((part) => part.code || part.text.trim());
}

/* The nodes of a text without blocks: plain text, and `code`. */
export function inline(text) {
  return text.split(/`([^`\n]+)`/).map((part, i) => (i % 2 ? element("code", "", part) : document.createTextNode(part)));
}

function paragraph(text) {
  const made = element("p");
  made.append(...inline(text.trim()));
  return made;
}

function codeBlock({ language, text }) {
  const made = element("div", "code");
  const head = element("div", "code-head");
  head.append(element("span", "", language || "code"), copier("Copy code", () => text));
  const pre = element("pre");
  pre.tabIndex = 0; // wide code can then be scrolled by keyboard
  pre.append(element("code", "", text));
  made.append(head, pre);
  return made;
}

/* Replaces what `target` shows by `text`. */
export function render(target, text) {
  target.replaceChildren(...blocks(text).map((block) => (block.code ? codeBlock(block) : paragraph(block.text))));
}
