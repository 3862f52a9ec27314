//go:build !race

package coordinator

// stormsRun is how many random interleavings a test run tries.
const stormsRun = 1500

// raceDetector says that the tests run under the race detector.
const raceDetector = false
