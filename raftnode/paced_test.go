package raftnode

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// slowWriter takes its time for each write.
type slowWriter struct {
	io.Writer
	takes time.Duration
}

func (w slowWriter) Write(b []byte) (int, error) {
	time.Sleep(w.takes)
	return w.Writer.Write(b)
}

// Whatever a snapshot's megabyte has taken, others have as long, up to a bound.
func TestPaced_RestsAsLongAsItWorks(t *testing.T) {
	for _, c := range []struct{ takes, rests time.Duration }{
		{0, 0}, {10 * time.Millisecond, 10 * time.Millisecond}, {time.Second, pauseMax},
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			p := &paced{w: slowWriter{io.Discard, c.takes / 2}, begun: begun}
			const megabytes = 3
			for range 2 * megabytes {
				if n, err := p.Write(make([]byte, pacedBytes/2)); n != pacedBytes/2 || err != nil {
					t.Fatal(n, err)
				}
			}
			if took, want := time.Since(begun), megabytes*(c.takes+c.rests); took != want {
				t.Errorf("%d MiB of %v each took %v, want %v", megabytes, c.takes, took, want)
			}
		})
	}
}
