package utl

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/server"
	"holdfast/util/urllist"
)

func (t *tool) member() *cobra.Command {
	c := &cobra.Command{Use: "member <subcommand>", Short: "Changes the membership of a cluster that does not run"}
	c.AddCommand(t.setURLs())
	return c
}

func (t *tool) setURLs() *cobra.Command {
	var dataDir, walDir string
	c := &cobra.Command{
		Use:   "set-urls <member>=<peer URL>... --data-dir <directory>",
		Short: "Gives members of a stopped cluster other peer addresses",
		Long: `Gives members other peer addresses without a quorum: for a whole cluster that was stopped and whose machines got other addresses.
Stop all members in good order first, when they are level. Then run this in the data directory of each of them, with the same arguments,
and start them with the new addresses in --listen-peer-urls and --initial-advertise-peer-urls.

A member is named by its name or its id. Of one with several addresses, name each. While a quorum runs, use "member update" of etcdctl.`,
		Example: "  " + t.name() + " member set-urls --data-dir /var/lib/holdfast m1=http://10.1.0.1:2380 m2=http://10.1.0.2:2380 m3=http://10.1.0.3:2380",
		Args:    cobra.MinimumNArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			r := server.Renumbering{DataDir: filepath.Clean(dataDir), WALDir: walDir, PeerURLs: map[string][]string{}, Log: logger(cmd)}
			for _, arg := range args {
				if err := addURL(r.PeerURLs, arg); err != nil {
					return coded{exitBadArgs, err}
				}
			}
			members, at, err := r.Run()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			for _, m := range members {
				fmt.Fprintf(out, "%v, %s, %s\n", m.ID, m.Name, strings.Join(m.PeerURLs, ","))
			}
			fmt.Fprintf(out, "%s is at entry %v; the other members should be, too.\n", dataDir, at)
			return nil
		}),
	}
	c.Flags().StringVar(&dataDir, "data-dir", "", "data directory of one of the members")
	c.Flags().StringVar(&walDir, "wal-dir", "", "where its raft log is (default: in --data-dir)")
	must(c.MarkFlagRequired("data-dir"))
	must(c.MarkFlagDirname("data-dir"))
	must(c.MarkFlagDirname("wal-dir"))
	return c
}

func addURL(to map[string][]string, arg string) error {
	who, text, found := strings.Cut(arg, "=")
	if !found || who == "" {
		return fmt.Errorf("%q is not of the form member=URL", arg)
	}
	urls, err := urllist.Parse(strings.Split(text, ","))
	if err != nil {
		return err
	}
	to[who] = append(to[who], urllist.Texts(urls)...)
	return nil
}
