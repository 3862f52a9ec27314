package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of /proc/PID/stat: USER_HZ, 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// cpuTime is what a process has used of the CPU, in user and in system mode.
func cpuTime(pid int) (time.Duration, error) {
	own, _, err := readStat(strconv.Itoa(pid))
	return own, err
}

// familyCPU is that of a process and of its children, those that have ended included:
// a Postgres has one for each connection.
func familyCPU(pid int) (time.Duration, error) {
	own, ended, err := readStat(strconv.Itoa(pid))
	if err != nil {
		return 0, err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid))
	if err != nil {
		return 0, err
	}
	sum := own + ended
	for child := range strings.FieldsSeq(string(children)) {
		if own, _, err := readStat(child); err == nil { // else it has ended just now
			sum += own
		}
	}
	return sum, nil
}

func readStat(pid string) (own, ended time.Duration, err error) {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseStat(string(text))
}

// parseStat reads what a process has used itself, and its children that have ended:
// utime and stime, cutime and cstime, fields 14 to 17, counted behind the program's
// name, which may hold spaces and brackets.
func parseStat(text string) (own, ended time.Duration, err error) {
	end := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:])
	const utime, cstime = 14 - 3, 17 - 3
	if end < 0 || len(fields) <= cstime {
		return 0, 0, errors.New("/proc/PID/stat is of an unknown form")
	}
	for i, field := range fields[utime : cstime+1] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		used := time.Duration(ticks) * time.Second / ticksPerSecond
		if i < 2 {
			own += used
		} else {
			ended += used
		}
	}
	return own, ended, nil
}

// nodeMeter is one node's figures at one moment.
type nodeMeter struct {
	cpu time.Duration
	// records are the commands of the node's log that it proposed itself and saw applied;
	// entries those that its log holds; writes how often it wrote to its log, fsync included.
	// bytes are those of the entries that the node wrote to its log.
	records, entries, writes, bytes float64
	// pending are commands that are not counted yet: what they did may be seen before that.
	pending float64
}

func (m nodeMeter) minus(o nodeMeter) nodeMeter {
	return nodeMeter{cpu: m.cpu - o.cpu, records: m.records - o.records, entries: m.entries - o.entries, writes: m.writes - o.writes, bytes: m.bytes - o.bytes}
}

// The series that are read.
const (
	seriesRecords = `quorate_proposals_total{result="committed"}`
	seriesEntries = "quorate_raft_applied_index"
	seriesWrites  = "quorate_log_fsync_duration_seconds_count"
	seriesBytes   = "quorate_log_bytes_total"
	seriesCPU     = "process_cpu_seconds_total"
	seriesPending = "quorate_proposals_pending"
)

// settleMax bounds how long a meter waits until nothing is pending: in a cluster that
// others use, something may always be.
const settleMax = 2 * time.Second

// settled is scrape, once all that was proposed is counted.
func settled(ctx context.Context, client *http.Client, url string, pid int) (nodeMeter, error) {
	for until := time.Now().Add(settleMax); ; {
		m, err := scrape(ctx, client, url, pid)
		if err != nil || m.pending == 0 || time.Now().After(until) {
			return m, err
		}
	}
}

// scrape reads a node's metrics. The CPU is of /proc where the process is of this
// machine (pid not 0), else what the node says of itself.
func scrape(ctx context.Context, client *http.Client, url string, pid int) (nodeMeter, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nodeMeter{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nodeMeter{}, err
	}
	defer resp.Body.Close()
	series, err := parseSeries(resp.Body)
	if err != nil {
		return nodeMeter{}, fmt.Errorf("%s: %w", url, err)
	}
	m := nodeMeter{
		records: series[seriesRecords], entries: series[seriesEntries], writes: series[seriesWrites], bytes: series[seriesBytes], pending: series[seriesPending],
		cpu: time.Duration(series[seriesCPU] * float64(time.Second)),
	}
	if pid != 0 {
		m.cpu, err = cpuTime(pid)
	}
	return m, err
}

// parseSeries reads the series that scrape wants, of Prometheus' text; every one must be there.
func parseSeries(r io.Reader) (map[string]float64, error) {
	series := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			continue
		}
		switch name {
		case seriesRecords, seriesEntries, seriesWrites, seriesBytes, seriesCPU, seriesPending:
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, err
			}
			series[name] = v
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	for _, name := range []string{seriesRecords, seriesEntries, seriesWrites, seriesBytes, seriesCPU, seriesPending} {
		if _, ok := series[name]; !ok {
			return nil, fmt.Errorf("the node has no metric %s", name)
		}
	}
	return series, nil
}
