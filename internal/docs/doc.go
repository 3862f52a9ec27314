// Package docs holds the tests that the documents tell the truth: the README's
// five-minute tour works as written, and the tests that docs/guarantees.md
// points to exist.
package docs
