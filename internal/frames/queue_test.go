package frames

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

func TestQueueKeepsOrderAndBounds(t *testing.T) {
	q := NewQueue[int](3)
	if !q.Put(1) || !q.Put(2, 3) {
		t.Fatal("there was room")
	}
	if q.Put(4) {
		t.Error("a fourth frame was taken: three may wait")
	}
	<-q.Ready()
	taken := q.Take(nil)
	if !slices.Equal(taken, []int{1, 2, 3}) {
		t.Errorf("took %v", taken)
	}
	if q.Put(5, 6, 7, 8) {
		t.Error("four frames were taken at once")
	}
	if !q.Put(9) {
		t.Fatal("there was room again")
	}
	select {
	case <-q.Ready():
	default:
		t.Error("the sender was not told of a frame")
	}
	if again := q.Take(taken); !slices.Equal(again, []int{9}) {
		t.Errorf("took %v", again)
	}
	q.Put(10)
	q.Close()
	if q.Put(11) || !q.Closed() {
		t.Error("a closed queue takes frames")
	}
	<-q.Ready()
	if rest := q.Take(nil); !slices.Equal(rest, []int{10}) {
		t.Errorf("what waited when it was closed is %v", rest)
	}
}

// TestQueueLosesNothing: many put, one takes; each frame comes once, and those of one
// goroutine in its order.
func TestQueueLosesNothing(t *testing.T) {
	const writers, each = 8, 2000
	q := NewQueue[[2]int](writers * each)
	var putting sync.WaitGroup
	for w := range writers {
		putting.Go(func() {
			for i := range each {
				if !q.Put([2]int{w, i}) {
					t.Error("there was room")
				}
			}
		})
	}
	go func() { putting.Wait(); q.Close() }()
	var next [writers]int
	var taken [][2]int
	for last := false; !last; {
		<-q.Ready()
		last = q.Closed()
		taken = q.Take(taken)
		for _, f := range taken {
			if next[f[0]] != f[1] {
				t.Fatalf("writer %d: frame %d came in the place of %d", f[0], f[1], next[f[0]])
			}
			next[f[0]]++
		}
	}
	for w, n := range next {
		if n != each {
			t.Errorf("writer %d: %d of %d frames came", w, n, each)
		}
	}
}

func TestCut(t *testing.T) {
	list := func(sizes ...int) (frames []*quoratev1.SessionError) {
		for _, size := range sizes {
			frames = append(frames, &quoratev1.SessionError{StatusProto: make([]byte, size)})
		}
		return frames
	}
	for _, tt := range []struct {
		sizes         []int
		frames, bytes int
		want          string
	}{
		{nil, 4, 100, ""},
		{[]int{1, 1, 1}, 4, 100, "3"},
		{[]int{1, 1, 1, 1, 1}, 4, 100, "4 1"},
		{[]int{1, 1, 1}, 1, 100, "1 1 1"},
		{[]int{1, 1, 1}, 0, 100, "1 1 1"},
		{[]int{40, 40, 40}, 4, 100, "2 1"},
		{[]int{500, 1, 500, 500}, 4, 100, "1 1 1 1"}, // one that is too long goes alone
		{[]int{500}, 4, 100, "1"},
	} {
		var got []string
		message, rest := Cut(list(tt.sizes...), tt.frames, tt.bytes)
		for len(message) > 0 {
			got = append(got, fmt.Sprint(len(message)))
			message, rest = Cut(rest, tt.frames, tt.bytes)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%v cut by %d frames and %d bytes: %v, want %s", tt.sizes, tt.frames, tt.bytes, got, tt.want)
		}
	}
}

func BenchmarkQueue(b *testing.B) {
	q := NewQueue[*quoratev1.SessionRequest](1 << 20)
	frame := &quoratev1.SessionRequest{}
	var taken []*quoratev1.SessionRequest
	b.ReportAllocs()
	for i := range b.N {
		q.Put(frame)
		if i%16 == 15 {
			taken = q.Take(taken)
		}
	}
}
