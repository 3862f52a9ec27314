//go:build race

package linearizability

// raceDetector says that the tests run under the race detector.
const raceDetector = true
