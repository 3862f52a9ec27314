//go:build !race

package fsm

// raceDetector says that the tests run under the race detector.
const raceDetector = false
