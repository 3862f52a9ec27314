// Package tlsconfig makes TLS configurations from certificate files, for every
// listener of a node (gRPC, HTTP, Raft) and every connection between nodes.
//
// Files are read again when they change, at most once a second and at the next
// handshake: a certificate is rotated by writing the new files, without a
// restart. Files that no longer load leave the old ones in use, with a log line.
package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkInterval is the least time between two looks at the files.
const checkInterval = time.Second

// Files names PEM files.
type Files struct {
	// Cert and Key are this node's certificate chain and private key. A server
	// needs both; a client gives both or none.
	Cert, Key string
	// CA is a bundle of authorities. A server that has one demands client
	// certificates signed by it (mutual TLS); a client trusts it instead of the
	// system's.
	CA string
}

// Source holds what was loaded last. Its methods may be called concurrently.
type Source struct {
	files  Files
	logger *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	checked time.Time
	stamps  [3]stamp
	current material
}

// material is one consistent load of the files.
type material struct {
	certificate *tls.Certificate
	authorities *x509.CertPool
}

// stamp tells whether a file changed.
type stamp struct {
	modified time.Time
	size     int64
}

// Load reads the files; nothing may be missing, half given or unreadable. A nil
// logger discards.
func Load(files Files, logger *slog.Logger) (*Source, error) {
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("tls: a certificate needs its key and a key its certificate: give both --tls-cert and --tls-key")
	}
	if files.Cert == "" && files.CA == "" {
		return nil, errors.New("tls: no files given: --tls-cert and --tls-key, and --tls-ca for mutual TLS")
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &Source{files: files, logger: logger, now: time.Now}
	current, err := files.load()
	if err != nil {
		return nil, err
	}
	s.current, s.stamps, s.checked = current, files.stamps(), s.now()
	return s, nil
}

// Mutual tells whether a server of this source demands client certificates.
func (s *Source) Mutual() bool { return s.files.CA != "" }

// Server returns a configuration for a listener, which follows the files.
// protocols are ALPN names ("h2" for gRPC); none for Raft.
func (s *Source) Server(protocols ...string) (*tls.Config, error) {
	if s.files.Cert == "" {
		return nil, errors.New("tls: a listener needs a certificate: give --tls-cert and --tls-key")
	}
	base := func() *tls.Config {
		current := s.latest()
		config := &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{*current.certificate},
			NextProtos:   protocols,
		}
		if current.authorities != nil {
			config.ClientCAs = current.authorities
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return config
	}
	config := base()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return base(), nil }
	return config, nil
}

// Client returns a configuration for dialing. The certificate it presents
// follows the files; the authorities are those of now, so a dialer that lives
// long should ask again for each connection where it can.
func (s *Source) Client(protocols ...string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.latest().authorities, NextProtos: protocols}
	if s.files.Cert != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return s.latest().certificate, nil
		}
	}
	return config
}

// latest reads the files again if they changed and it is time to look.
func (s *Source) latest() material {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.checked) < checkInterval {
		return s.current
	}
	s.checked = now
	stamps := s.files.stamps()
	if stamps == s.stamps {
		return s.current
	}
	current, err := s.files.load()
	if err != nil {
		// Half-written files look like this too: look again next time.
		s.logger.Warn("the new TLS files do not load; the old ones stay in use", "error", err)
		return s.current
	}
	s.current, s.stamps = current, stamps
	s.logger.Info("TLS files were read again", "cert", s.files.Cert, "ca", s.files.CA)
	return s.current
}

func (f Files) load() (material, error) {
	var loaded material
	if f.Cert != "" {
		certificate, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return material{}, fmt.Errorf("tls: certificate %s with key %s: %w", f.Cert, f.Key, err)
		}
		loaded.certificate = &certificate
	}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return material{}, fmt.Errorf("tls: authorities: %w", err)
		}
		loaded.authorities = x509.NewCertPool()
		if !loaded.authorities.AppendCertsFromPEM(pem) {
			return material{}, fmt.Errorf("tls: authorities: %s holds no PEM certificate", f.CA)
		}
	}
	return loaded, nil
}

func (f Files) stamps() [3]stamp {
	var stamps [3]stamp
	for i, name := range []string{f.Cert, f.Key, f.CA} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			stamps[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return stamps
}
