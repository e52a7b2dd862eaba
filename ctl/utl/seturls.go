package utl

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/ctl/exit"
	"holdfast/ctl/output"
	"holdfast/kv"
	"holdfast/membership"
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
					return exit.With(exit.BadArgs, err)
				}
			}
			return t.showDone(cmd, func() (output.Report, error) {
				members, at, err := r.Run()
				return renumbered(dataDir, members, at), err
			})
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

// renumbered says who the members are now, and how far this one is.
func renumbered(dataDir string, members []membership.Member, at kv.Index) output.Report {
	type member struct {
		ID       string   `json:"id"`
		Name     string   `json:"name"`
		PeerURLs []string `json:"peerURLs"`
	}
	answer := struct {
		DataDir string   `json:"dataDir"`
		Applied uint64   `json:"appliedIndex"`
		Members []member `json:"members"`
	}{DataDir: dataDir, Applied: uint64(at)}
	who := output.Table{Columns: []output.Column{{Head: "id", Name: "ID"}, {Head: "name", Name: "Name"}, {Head: "peer addrs", Name: "PeerURLs"}}}
	for _, m := range members {
		answer.Members = append(answer.Members, member{m.ID.String(), m.Name, m.PeerURLs})
		who.Rows = append(who.Rows, []output.Cell{output.Quoted(m.ID.String()), output.Quoted(m.Name), output.Quoted(strings.Join(m.PeerURLs, ","))})
	}
	return output.Report{
		JSON: answer,
		Tables: []output.Table{who, {
			Columns: []output.Column{{Head: "data directory", Name: "DataDir"}, {Head: "applied index", Name: "AppliedIndex"}},
			Rows:    [][]output.Cell{{output.Quoted(dataDir), output.Shown(at)}},
		}},
		Simple: func(w io.Writer) {
			for _, m := range members {
				fmt.Fprintf(w, "%v, %s, %s\n", m.ID, m.Name, strings.Join(m.PeerURLs, ","))
			}
			fmt.Fprintf(w, "%s is at entry %v; the other members should be, too.\n", dataDir, at)
		},
	}
}
