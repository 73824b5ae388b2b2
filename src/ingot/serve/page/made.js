/* Small pieces of the document, and copying text. */

export const find = (id) => document.getElementById(id);

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(text, act, className) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

/* A button that copies what `text()` returns, and says so for a moment. */
export function copier(label, text) {
  const made = button(label, async () => {
    made.textContent = await copied(text()) ? "Copied" : "Not copied";
    setTimeout(() => { made.textContent = label; }, 1500);
  });
  return made;
}

/* Returns whether the text is on the clipboard. Browsers offer the plain way to secure pages only. */
async function copied(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  const before = document.activeElement;
  const field = element("textarea", "unseen");
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}
