//go:build race

package coordinator

// stormsRun is smaller under the race detector: a storm has one goroutine.
const stormsRun = 150

// raceDetector says that the tests run under the race detector.
const raceDetector = true
