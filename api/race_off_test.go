//go:build !race

package api

// raceDetector says that the tests run under the race detector.
const raceDetector = false
