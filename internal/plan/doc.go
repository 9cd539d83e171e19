// Package plan decides what a push or a pull has to do, as pure functions of what is here and what is there. It does no I/O, so that "--dry-run", "diff" and
// the real run go by the same decision.
package plan
