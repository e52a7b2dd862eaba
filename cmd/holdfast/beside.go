package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"holdfast/config"
	"holdfast/discovery"
	"holdfast/tlsconf"
	"holdfast/util/jsonlog"
	"holdfast/util/systemd"
)

// What runs beside a cluster: the gateway and the gRPC proxy. They take etcd's flags, in etcd's form: two dashes, no
// environment variables, no file.

// runBeside runs "gateway" or "grpc-proxy" and ends the process.
func runBeside(program string, args []string) {
	root := &cobra.Command{Use: program, SilenceUsage: true}
	root.CompletionOptions.DisableDefaultCmd = true
	for _, group := range []struct {
		name  string
		start *cobra.Command
	}{{"gateway", gatewayCommand()}, {"grpc-proxy", grpcProxyCommand()}} {
		c := &cobra.Command{Use: group.name + " <subcommand>", Short: group.name + " related command"}
		c.AddCommand(group.start)
		root.AddCommand(c)
	}
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		os.Exit(config.ExitRefused) // cobra has said why
	}
}

// runUntilSignal runs what a command is for, with a log, until a signal ends it, by which the process then ends, or it fails.
func runUntilSignal(level string, run func(ctx context.Context, log *slog.Logger) error) error {
	log, outputs, err := jsonlog.Open(jsonlog.Config{Level: level})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signaled := awaitSignal(cancel, log)
	err = run(ctx, log)
	caught := signaled()
	if err = errors.Join(err, outputs.Close()); err != nil {
		return err
	}
	if caught != nil {
		raise(caught)
	}
	return nil
}

// tellReady says to the service manager, if there is one, that clients can connect.
func tellReady(log *slog.Logger) {
	if err := findManager(log).Tell(systemd.Ready); err != nil {
		log.Error("failed to notify systemd for readiness", "error", err)
	}
}

// where says where the members are, by their names or by DNS.
type where struct {
	endpoints    []string
	domain, name string // of SRV records
	insecure     bool   // take records as they are
	caFile       string // that vouches for the endpoints of the records
}

func (w *where) declare(cmd *cobra.Command, domainUsage string) {
	f := cmd.Flags()
	f.StringSliceVar(&w.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "comma separated etcd cluster endpoints")
	f.StringVar(&w.domain, "discovery-srv", "", domainUsage)
	f.StringVar(&w.name, "discovery-srv-name", "", "service name to query when using DNS discovery")
	f.BoolVar(&w.insecure, "insecure-discovery", false, "accept insecure SRV records")
}

// discovered are the endpoints that DNS names, if it was asked to; nil if the named ones are to be used.
func (w *where) discovered(ctx context.Context, log *slog.Logger) ([]discovery.Endpoint, error) {
	if w.domain == "" {
		return nil, nil
	}
	found, err := discovery.SRV{Domain: w.domain, Name: w.name, Log: log}.Clients(ctx)
	if err != nil {
		return nil, err
	}
	log.Info("discovered cluster from SRV", "srv-server", w.domain, "endpoints", urlsOf(found))
	if w.insecure {
		return found, nil
	}
	check, err := w.verifier(log)
	if err != nil {
		return nil, err
	}
	var good []discovery.Endpoint
	for _, e := range found {
		if err := check(ctx, e); err != nil {
			log.Warn("failed to validate discovered endpoints", "srv-server", w.domain, "endpoints", []string{e.URL()}, "error", err)
			continue
		}
		good = append(good, e)
	}
	log.Info("using validated discovered SRV endpoints", "srv-server", w.domain, "endpoints", urlsOf(good))
	return good, nil
}

// validateTimeout bounds the attempt to reach one discovered endpoint, as in etcd.
const validateTimeout = 5 * time.Second

// verifier checks that an endpoint is one of TLS and can be reached and, where there is a file of authorities, that it shows a
// certificate of theirs for its name or for the domain.
func (w *where) verifier(log *slog.Logger) (func(context.Context, discovery.Endpoint) error, error) {
	var side *tlsconf.Side
	if w.caFile != "" {
		var err error
		side, err = tlsconf.Open(tlsconf.Options{TrustedCAFile: w.caFile, AnyServer: true, Log: log})
		if err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, e discovery.Endpoint) error {
		if e.Scheme != "https" {
			return fmt.Errorf("%q is insecure", e.URL())
		}
		ctx, cancel := context.WithTimeout(ctx, validateTimeout)
		defer cancel()
		c, err := new(net.Dialer).DialContext(ctx, "tcp", e.Address())
		if err != nil {
			return fmt.Errorf("%q failed to dial (%w)", e.URL(), err)
		}
		defer c.Close()
		if side == nil {
			return nil
		}
		var failed []error
		for _, name := range []string{e.Host, w.domain} {
			err := showsName(ctx, e.Address(), side.Client(name), name)
			if err == nil {
				return nil
			}
			failed = append(failed, err)
		}
		return errors.Join(failed...)
	}, nil
}

// showsName tells whether the server at an address proves a name.
func showsName(ctx context.Context, address string, cfg *tls.Config, name string) error {
	cfg.ServerName, cfg.InsecureSkipVerify = name, false
	c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

func urlsOf(endpoints []discovery.Endpoint) (urls []string) {
	for _, e := range endpoints {
		urls = append(urls, e.URL())
	}
	return urls
}
