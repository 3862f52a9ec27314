//go:build !race

package coordinator

// stormsRun is how many random interleavings a test run tries.
const stormsRun = 1500
