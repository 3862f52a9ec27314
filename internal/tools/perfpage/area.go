package main

import "strings"

// area is a part of the program, known by functions whose names begin so.
type area struct {
	name     string
	prefixes []string
}

// runtimeAreas are looked for first, from the innermost function on: what the runtime
// does on behalf of others is shown by itself.
var runtimeAreas = []area{
	{"garbage collection", []string{"runtime.gcBgMarkWorker", "runtime.gcAssist", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart", "runtime.gcMark"}},
	{"memory allocation", []string{"runtime.mallocgc", "runtime.newobject", "runtime.growslice", "runtime.makeslice", "runtime.newAllocBits"}},
	{"goroutines: scheduling, channels, locks, timers", []string{
		"runtime.schedule", "runtime.findRunnable", "runtime.park_m", "runtime.mcall", "runtime.selectgo", "runtime.chansend", "runtime.chanrecv",
		"runtime.ready", "runtime.goready", "runtime.newproc", "runtime.goexit0", "runtime.futex", "runtime.lock2", "runtime.unlock2", "runtime.semacquire",
		"runtime.semrelease", "runtime.sysmon", "runtime.mstart", "runtime.gopark", "runtime.morestack", "runtime.stealWork", "runtime.wakep", "sync.(*Mutex)", "internal/sync.(*Mutex)",
		"time.newTimer", "time.stopTimer", "time.resetTimer", "runtime.(*timer", "runtime.mstart1",
	}},
}

// systemCalls are told apart by who makes them.
var systemCalls = []string{"internal/runtime/syscall.", "runtime/internal/syscall.", "syscall.", "internal/poll.", "runtime.entersyscall", "runtime.exitsyscall", "runtime.netpoll"}

// areas are looked for from the innermost function on, past the standard library.
var areas = []area{
	{"fsm: the state machine", []string{"github.com/quorate/quorate/fsm"}},
	{"coordinator: the driver", []string{"github.com/quorate/quorate/coordinator"}},
	{"raftnode: batches, log, reads", []string{"github.com/quorate/quorate/raftnode"}},
	{"api: requests, sessions, answers", []string{"github.com/quorate/quorate/api"}},
	{"floor", []string{"github.com/quorate/quorate/internal/bench/floor"}},
	{"protobuf", []string{"google.golang.org/protobuf"}},
	{"gRPC", []string{"google.golang.org/grpc", "golang.org/x/net"}},
	{"hashicorp/raft and its log stores", []string{"github.com/hashicorp", "go.etcd.io/bbolt", "github.com/benbjohnson"}},
	{"metrics", []string{"github.com/prometheus"}},
}

// areaOf names the area of a stack, the innermost function first.
func areaOf(stack []string) string {
	for _, name := range stack {
		if in(name, systemCalls) {
			return "system calls: " + caller(stack)
		}
		for _, a := range runtimeAreas {
			if in(name, a.prefixes) {
				if a.name == "memory allocation" && collects(stack) {
					return "garbage collection" // an allocation that had to help
				}
				return a.name
			}
		}
	}
	for _, name := range stack {
		for _, a := range areas {
			if in(name, a.prefixes) {
				return a.name
			}
		}
	}
	return "else"
}

// caller says whose system call it is.
func caller(stack []string) string {
	for _, name := range stack {
		switch {
		case in(name, []string{"net.", "google.golang.org/grpc", "github.com/hashicorp/raft.(*NetworkTransport", "github.com/hashicorp/raft.(*netConn", "net/http."}):
			return "network"
		case in(name, []string{"os.", "go.etcd.io/bbolt", "github.com/hashicorp/raft-wal"}):
			return "disk"
		}
	}
	return "waiting and timers"
}

func collects(stack []string) bool {
	for _, name := range stack {
		if in(name, runtimeAreas[0].prefixes) {
			return true
		}
	}
	return false
}

func in(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
