// Questions: yes or no, and one line of text.

import { $ } from "./element.js";

/** A question; the text of its field, true for yes without a field, null for no. */
export function ask({ title, text = "", yes, field = null, value = "", secret = false, danger = false }) {
  const dialog = $("question");
  $("question-title").textContent = title;
  $("question-text").textContent = text;
  $("question-text").hidden = !text;
  $("question-field").hidden = field === null;
  $("question-field").firstElementChild.textContent = field ?? "";
  const input = $("question-value");
  input.type = secret ? "password" : "text";
  input.value = value;
  input.required = field !== null;
  $("question-yes").textContent = yes;
  $("question-yes").classList.toggle("danger", danger);
  dialog.returnValue = "";
  dialog.showModal();
  if (field === null) (danger ? $("question-no") : $("question-yes")).focus();
  else input.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "yes";
      resolve(given ? (field === null ? true : input.value.trim() || null) : null);
    }, { once: true });
  });
}

/** Dialogs close on a click beside them, and by their Cancel button. */
export function readyDialogs() {
  $("question-no").addEventListener("click", () => $("question").close(""));
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(""); });
  }
}
