package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"holdfast/proxy/relay"
)

// gateway are the flags of "gateway start".
type gateway struct {
	where
	listen string
	retry  time.Duration
}

func gatewayCommand() *cobra.Command {
	g := new(gateway)
	cmd := &cobra.Command{
		Use: "start", Short: "start the gateway", Args: cobra.ArbitraryArgs, // etcd takes no notice of them either
		RunE: func(*cobra.Command, []string) error { return runUntilSignal("info", g.run) },
	}
	g.declare(cmd, "DNS domain used to bootstrap initial cluster")
	f := cmd.Flags()
	f.StringVar(&g.listen, "listen-addr", "127.0.0.1:23790", "listen address")
	f.DurationVar(&g.retry, "retry-delay", time.Minute, "duration of delay before retrying failed endpoints")
	f.StringVar(&g.caFile, "trusted-ca-file", "",
		"path to the client server TLS CA file for verifying the discovered endpoints when discovery-srv is provided.")
	return cmd
}

func (g *gateway) run(ctx context.Context, log *slog.Logger) error {
	log.Info("Running: ", "args", os.Args)
	targets, err := g.targets(ctx, log)
	if err != nil {
		return err
	}
	if err := errLoop(ctx, g.listen, targets); err != nil {
		return err
	}
	l, err := net.Listen("tcp", g.listen)
	if err != nil {
		return err
	}
	tellReady(log)
	return relay.New(relay.Config{Targets: targets, RetryDelay: g.retry, Log: log}).Run(ctx, l)
}

// targets are the members: those that DNS names or, if it names none, those of the flag. URLs stand for their addresses.
func (g *gateway) targets(ctx context.Context, log *slog.Logger) (targets []relay.Target, err error) {
	found, err := g.discovered(ctx, log)
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		targets = append(targets, relay.Target{Address: e.Address(), Priority: e.Priority, Weight: e.Weight})
	}
	if len(targets) > 0 {
		return targets, nil
	}
	for _, address := range g.endpoints {
		if u, err := url.Parse(address); err == nil && u.Host != "" {
			address = u.Host
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("error parsing endpoint %q", address)
		}
		targets = append(targets, relay.Target{Address: address})
	}
	if len(targets) == 0 {
		return nil, errors.New("no endpoints found")
	}
	return targets, nil
}

// errLoop refuses a gateway that would pass connections to itself.
func errLoop(ctx context.Context, listen string, targets []relay.Target) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("failed to validate listen address: %s", listen)
	}
	own, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return fmt.Errorf("failed to resolve listen host: %s", host)
	}
	for _, t := range targets {
		targetHost, targetPort, err := net.SplitHostPort(t.Address)
		if err != nil {
			return err
		}
		addresses, err := net.DefaultResolver.LookupHost(ctx, targetHost)
		if err != nil {
			return fmt.Errorf("failed to resolve endpoint host: %s", targetHost)
		}
		for _, a := range addresses {
			if targetPort == port && slices.Contains(own, a) {
				return fmt.Errorf("SRV or endpoint (%s->%s) should not resolve to the gateway listen addr (%s)",
					t.Address, net.JoinHostPort(a, targetPort), listen)
			}
		}
	}
	return nil
}
