// Package cluster breaks clusters of real processes, as a seed says, and judges what clients saw.
//
// A round is a cluster of three or five members, each with a disk, an address and a name server of its own, clients, leases and
// watches that work on it, and some faults: processes killed, stopped and paused; disks frozen and filled; members replaced; all of
// them down; ways between them cut in one direction or both, slowed and moved to other addresses.
//
//	round_test.go     a round, from its seed to the verdict
//	faults_test.go    what can befall it
//	judge_test.go     the verdict, with model_test.go as the truth
//	planted_test.go   wrong histories, each of which must be found
//	harness_test.go   shows that network and disks do what they are told
//	settle_test.go    what all members must agree on in the end
//
// The judge asks that
//
//   - porcupine finds one order of all requests that explains all answers, headers included
//   - watches are told everything once, in order, each revision whole, and only the truth about their progress
//   - no lease ends before the time that was promised with an answer
//   - in the end members tell the same history and have the same rows, hash, leases, members and no alarm
//   - every answer comes from the member and the cluster that were asked
//
// Beside the rounds there are tests with names, of what is asked of clusters one by one: A2, A11 and so on are the requirements'.
// Times on the clock of the machine are recorded, not judged.
//
//	Shape   the network: names and links (network_test.go): a member reaches each other one through a door of its own, for its
//	        name server says so. What happens to a directed pair happens to its door
//	        the disks: loop devices with ext4 (disk_test.go), frozen by fsfreeze
//	Needs   root, for mounts, name servers on port 53 and a mount namespace for each process
//	Source  etcd's robustness tests and Jepsen's for etcd, for what is asked; FoundationDB for rounds from seeds
//
//	go test ./test/cluster -run TestRounds -seed=7 -rounds=1 -program=etcd
package cluster
