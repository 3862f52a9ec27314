package main

import (
	"crypto/tls"
	"log/slog"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/api/tlsconfig"
	"github.com/quorate/quorate/internal/config"
)

// nodeTLS is the TLS of a node's listeners and of its calls to other nodes; all
// nil in the clear.
type nodeTLS struct {
	api, apiClient   *tls.Config
	raft, raftClient *tls.Config
}

// loadTLS reads the files. The Raft port may have a certificate and a CA of its
// own, so that a client's certificate does not open it.
func loadTLS(cfg *config.Config, logger *slog.Logger) (nodeTLS, error) {
	var t nodeTLS
	if cfg.TLS.CertFile == "" {
		return t, nil
	}
	files := tlsconfig.Files{Cert: cfg.TLS.CertFile, Key: cfg.TLS.KeyFile, CA: cfg.TLS.CAFile}
	source, err := tlsconfig.Load(files, logger)
	if err != nil {
		return t, err
	}
	if t.api, err = source.Server("h2", "http/1.1"); err != nil {
		return t, err
	}
	t.apiClient = source.Client("h2")

	raftFiles := files
	if cfg.TLS.RaftCertFile != "" {
		raftFiles.Cert, raftFiles.Key = cfg.TLS.RaftCertFile, cfg.TLS.RaftKeyFile
	}
	if cfg.TLS.RaftCAFile != "" {
		raftFiles.CA = cfg.TLS.RaftCAFile
	}
	if source, err = tlsconfig.Load(raftFiles, logger); err != nil {
		return t, err
	}
	if t.raft, err = source.Server(); err != nil {
		return t, err
	}
	t.raftClient = source.Client()
	return t, nil
}

// credentials are for this node's gRPC calls to other nodes.
func (t nodeTLS) credentials() credentials.TransportCredentials {
	if t.apiClient == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(t.apiClient)
}
