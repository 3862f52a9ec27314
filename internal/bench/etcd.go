package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quorate/quorate/internal/freeport"
	"github.com/quorate/quorate/internal/proc"
	"github.com/quorate/quorate/internal/timebox"
)

// peerEtcd is the peer's name.
const peerEtcd = "etcd"

// etcd is a cluster of etcd, of the machine's own package, with its default settings:
// the same number of nodes, fsync on, the same load and as many bytes.
type etcd struct {
	processes []*proc.Process
	ports     freeport.Set
	clients   []string // addresses

	mu    sync.Mutex
	conns []*grpc.ClientConn // to the leader
	lead  string

	bounds timebox.Contexts
}

// The methods that are called. Their messages are small enough to be made by hand.
const (
	etcdPut    = "/etcdserverpb.KV/Put"
	etcdRange  = "/etcdserverpb.KV/Range"
	etcdStatus = "/etcdserverpb.Maintenance/Status"
)

// etcdStartMax is how long its nodes may take to agree on a leader.
const etcdStartMax = 30 * time.Second

// startEtcd starts so many nodes and waits for their leader.
func startEtcd(ctx context.Context, dir string, nodes int) (*etcd, error) {
	binary, err := exec.LookPath("etcd")
	if err != nil {
		return nil, fmt.Errorf("--peer etcd: no program etcd is installed (%w): apt-get install etcd-server, or leave --peer out", err)
	}
	e := &etcd{}
	if err := e.start(ctx, binary, dir, nodes); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	return e, nil
}

func (e *etcd) start(ctx context.Context, binary, dir string, nodes int) error {
	var members, peers []string
	for i := range nodes {
		client, err := e.ports.Take("127.0.0.1")
		if err != nil {
			return err
		}
		peer, err := e.ports.Take("127.0.0.1")
		if err != nil {
			return err
		}
		e.clients = append(e.clients, net.JoinHostPort("127.0.0.1", strconv.Itoa(client)))
		peers = append(peers, fmt.Sprintf("http://127.0.0.1:%d", peer))
		members = append(members, fmt.Sprintf("e%d=%s", i+1, peers[i]))
	}
	for i := range nodes {
		p, err := proc.Start(proc.Spec{
			Name: fmt.Sprintf("etcd %d", i+1), Path: binary, DropEnv: "ETCD_", LogPath: filepath.Join(filepath.Dir(dir), fmt.Sprintf("etcd%d.log", i+1)),
			Args: []string{
				"--name", fmt.Sprintf("e%d", i+1), "--data-dir", fmt.Sprintf("%s%d", dir, i+1),
				"--listen-client-urls", "http://" + e.clients[i], "--advertise-client-urls", "http://" + e.clients[i],
				"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
				"--initial-cluster", strings.Join(members, ","), "--initial-cluster-state", "new", "--log-level", "warn",
			},
		})
		if err != nil {
			return err
		}
		e.processes = append(e.processes, p)
	}
	ctx, cancel := context.WithTimeout(ctx, etcdStartMax)
	defer cancel()
	for {
		err := e.findLeader(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcd has no leader after %v: %w", etcdStartMax, err)
		case <-time.After(10 * retryPause):
		}
	}
}

func (e *etcd) stop() error {
	for _, conn := range e.conns {
		_ = conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, p := range e.processes {
		if p.Running() {
			errs = append(errs, p.Stop(ctx))
		}
	}
	e.ports.Release()
	for i, err := range errs {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			errs[i] = nil // etcd ends with its signal
		}
	}
	return errors.Join(errs...)
}

// findLeader asks each node for its id and its leader's: StatusResponse.header is field
// 1, with member_id in its field 2; StatusResponse.leader is field 4.
func (e *etcd) findLeader(ctx context.Context) error {
	last := errors.New("no node says that it leads")
	for _, address := range e.clients {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		answer, err := e.invoke(ctx, conn, etcdStatus, nil)
		_ = conn.Close()
		if err != nil {
			last = err
			continue
		}
		header, _ := field(answer, 1)
		id, ok := number(header, 2)
		leader, _ := number(answer, 4)
		if ok && id == leader {
			e.lead = address
			return nil
		}
	}
	return last
}

func (e *etcd) invoke(ctx context.Context, conn *grpc.ClientConn, method string, request []byte) ([]byte, error) {
	if request == nil {
		request = []byte{}
	}
	var answer []byte
	err := conn.Invoke(e.bounds.Get(ctx, attemptMax), method, &request, &answer, grpc.ForceCodecV2(rawCodec{}))
	return answer, err
}

// connect has as many connections to the leader as the product's callers have.
func (e *etcd) connect(callers int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.conns) < max(1, (callers+callersPerConnection-1)/callersPerConnection) {
		conn, err := grpc.NewClient(e.lead, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		e.conns = append(e.conns, conn)
	}
	return nil
}

// slice measures puts, of a fresh key and the bytes of two branches each; afterwards
// the keys are counted.
func (e *etcd) slice(ctx context.Context, warmUp time.Duration, l loop) (Slice, error) {
	if err := e.connect(l.callers); err != nil {
		return Slice{}, err
	}
	conns := e.conns[:max(1, (l.callers+callersPerConnection-1)/callersPerConnection)]
	prefix := string(freshPayload()[:10]) + "/"
	var fresh target // its clock stays at 0: the keys need be fresh, not young
	op := func(ctx context.Context, caller int) error {
		_, err := e.invoke(ctx, conns[caller%len(conns)], etcdPut, putRequest(prefix+fresh.freshGID(), append(freshPayload(), freshPayload()...)))
		return err
	}
	warm := loop{callers: l.callers, duration: warmUp, rate: l.rate}.run(ctx, op)
	m := l.run(ctx, op)
	if err := errors.Join(ctx.Err(), warm.firstErr, m.firstErr); err != nil {
		return Slice{}, err
	}
	s := newSlice(m, nil, 0)
	keys, err := e.count(ctx, prefix)
	if err == nil && keys != warm.done+m.done {
		err = fmt.Errorf("etcd acknowledged %d puts and holds %d keys", warm.done+m.done, keys)
	}
	s.Compared = int(keys)
	return s, err
}

// putRequest is PutRequest{key = 1, value = 2}.
func putRequest(key string, value []byte) []byte {
	b := protowire.AppendString(protowire.AppendTag(make([]byte, 0, len(key)+len(value)+8), 1, protowire.BytesType), key)
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), value)
}

// count asks how many keys have the prefix: RangeRequest{key = 1, range_end = 2,
// count_only = 9}, RangeResponse.count = 4.
func (e *etcd) count(ctx context.Context, prefix string) (uint64, error) {
	end := []byte(prefix)
	end[len(end)-1]++
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), prefix)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), end)
	b = protowire.AppendVarint(protowire.AppendTag(b, 9, protowire.VarintType), 1)
	answer, err := e.invoke(ctx, e.conns[0], etcdRange, b)
	if err != nil {
		return 0, err
	}
	keys, _ := number(answer, 4)
	return keys, nil
}

// field finds a field of bytes in a message.
func field(message []byte, want protowire.Number) (value []byte, ok bool) {
	each(message, func(n protowire.Number, _ uint64, bytes []byte) {
		if n == want && bytes != nil {
			value, ok = bytes, true
		}
	})
	return value, ok
}

// number finds a field of a number in a message.
func number(message []byte, want protowire.Number) (value uint64, ok bool) {
	each(message, func(n protowire.Number, v uint64, bytes []byte) {
		if n == want && bytes == nil {
			value, ok = v, true
		}
	})
	return value, ok
}

func each(message []byte, f func(n protowire.Number, v uint64, bytes []byte)) {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return
		}
		message = message[size:]
		switch kind {
		case protowire.VarintType:
			v, used := protowire.ConsumeVarint(message)
			f(n, v, nil)
			size = used
		case protowire.BytesType:
			bytes, used := protowire.ConsumeBytes(message)
			f(n, 0, append([]byte{}, bytes...))
			size = used
		default:
			size = protowire.ConsumeFieldValue(n, kind, message)
		}
		if size < 0 {
			return
		}
		message = message[size:]
	}
}
