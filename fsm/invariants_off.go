//go:build !invariants

package fsm

// checkEveryApply makes Apply look at the whole state after every entry.
const checkEveryApply = false
