// The log of edits: undo and redo of the latest one in the project.
import { pageValues } from "/static/api.js";
import { UndoButtons } from "/static/curate.js";

const byId = (id) => document.getElementById(id);
const buttons = new UndoButtons(byId("undo"), byId("redo"), () => null, () => location.reload());
buttons.show(pageValues());
