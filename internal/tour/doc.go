// Package tour holds the test that the README's five-minute tour works as
// written: it runs the commands of the README against a real cluster.
package tour
