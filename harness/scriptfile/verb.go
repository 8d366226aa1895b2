package scriptfile

import (
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"twlab/harness/script"
	"twlab/harness/topo"
)

// verb makes the field of a verb with several keys.
func verb[A script.Action](to *script.Action, key, means string, a *A, fields []field) field {
	return field{key, means, value{"mapping", mapping, func(r *reader, n *yaml.Node) {
		r.mapping(n, strconv.Quote(key), fields)
		*to = *a
	}, func() *yaml.Node {
		is, ok := (*to).(A)
		if !ok {
			return nil
		}
		*a = is
		return mappingNode(fields)
	}}}
}

// scalarVerb makes the field of a verb with one value.
func scalarVerb[A script.Action](to *script.Action, key, means string, a *A, of value) field {
	return field{key, means, value{of.takes, of.form, func(r *reader, n *yaml.Node) {
		of.read(r, n)
		*to = *a
	}, func() *yaml.Node {
		is, ok := (*to).(A)
		if !ok {
			return nil
		}
		*a = is
		return of.write()
	}}}
}

// verbs are the fields of all verbs.
func (r *reader) verbs(to *script.Action) []field {
	return slices.Concat(r.socketVerbs(to), r.faultVerbs(to), programVerbs(to))
}

func (r *reader) faultVerbs(to *script.Action) []field {
	var (
		add    script.AddRule
		remove script.RemoveRule
		drop   script.Drop
		link   script.SetLink
		impair script.Impair
		forget script.ForgetFlows
		set    script.Set
	)
	return []field{
		verb(to, "add-rule", "Adds an iptables rule.", &add, []field{
			{"node", "The node.", text(&add.Node)},
			{"rule", "Table, chain and rule: nat PREROUTING -d {vip} -j DNAT --to-destination {web}:80.", value{"text", anyText, func(r *reader, n *yaml.Node) {
				if n == nil {
					return
				}
				if t, ok := r.scalar(n, "text"); ok {
					add.Table, add.Chain, add.Spec = r.rule(n, t)
				}
			}, func() *yaml.Node { return scalarNode(add.Table + " " + add.Chain + " " + add.Spec) }}},
		}),
		scalarVerb(to, "remove-rule", "Removes the rule, or ends the drop, of the step of this id.", &remove, text(&remove.Step)),
		verb(to, "drop", "Loses packets at a node.", &drop, []field{
			{"node", "The node.", text(&drop.Node)},
			{"in", "The neighbour that the packets come from.", text(&drop.In)},
			{"out", "The neighbour that they are for.", text(&drop.Out)},
			{"flags", "TCP flags that they have: SYN,ACK.", text(&drop.Flags)},
			{"from", "Their source.", endpoint(&drop.From)},
			{"to", "Their destination.", endpoint(&drop.To)},
			{"first", "After how many packets it ends.", number(&drop.First)},
			{"for", "After which time it ends.", duration(&drop.For)},
		}),
		verb(to, "link", "Takes a link down, or up again.", &link, []field{
			{"between", "Its nodes: client -- gateway.", pair(&link.A, &link.B)},
			{"up", "true or false.", truth(&link.Up)},
			{"for", "After which time it is as before.", duration(&link.For)},
		}),
		verb(to, "impair", "Sets what becomes of the packets of a link from now on; with nothing else, all is as before. It needs netem.", &impair,
			append([]field{{"between", "Its nodes: client -- gateway.", pair(&impair.A, &impair.B)}}, impairmentFields(&impair.From, &impair.Sends)...)),
		verb(to, "forget-flows", "Deletes conntrack entries.", &forget, append([]field{
			{"node", "The node.", text(&forget.Node)},
		}, flowFields(&forget.Flow)...)),
		verb(to, "set", "Sets sysctls.", &set, []field{
			{"node", "The node.", text(&set.Node)},
			{"sysctls", "net.some.name: value.", value{"mapping of names to values", namesOf(anyText), func(r *reader, n *yaml.Node) {
				if n == nil {
					return
				}
				r.entries(n, "sysctls", func(key, val *yaml.Node) {
					if t, ok := r.scalar(val, "a value"); ok {
						set.Sysctls = append(set.Sysctls, script.Sysctl{Name: key.Value, Value: t})
					}
				})
			}, func() *yaml.Node {
				n := mappingNode(nil)
				for _, s := range set.Sysctls {
					n.Content = append(n.Content, scalarNode(s.Name), textNode(s.Value))
				}
				return n
			}}},
		}),
	}
}

// impairmentFields are what becomes of packets that an end of a link sends.
func impairmentFields(from *string, i *topo.Impairment) []field {
	return []field{
		{"from", "The end whose packets are meant; without it, both.", text(from)},
		{"loss", "How many percent of the packets are lost.", percent(&i.Loss)},
		{"duplicate", "How many percent arrive twice.", percent(&i.Duplicate)},
		{"delay", "How much later packets leave.", duration(&i.Delay)},
		{"jitter", "By how much the delay differs, so that packets may overtake each other.", duration(&i.Jitter)},
		{"keep-order", "Packets do not overtake each other.", truth(&i.KeepOrder)},
	}
}

func flowFields(f *script.Flow) []field {
	return []field{
		{"from", "The source of the first packet.", endpoint(&f.From)},
		{"to", "Its destination.", endpoint(&f.To)},
		{"as", "The source after translation.", endpoint(&f.As)},
		{"at", "The destination after translation.", endpoint(&f.At)},
		{"state", "The state of conntrack: SYN_SENT.", text(&f.State)},
	}
}

func programVerbs(to *script.Action) []field {
	var (
		stop   script.Stop
		start  script.Start
		reload script.Reload
		await  script.Await
		sleep  script.Sleep
	)
	return []field{
		verb(to, "stop", "Stops the program that balances at a node.", &stop, []field{
			{"node", "The node.", text(&stop.Node)},
			{"how", "soft serves the connections that there are; hard, without it, does not.", named(&stop.Soft, []string{"soft", "hard"}, []bool{true, false})},
		}),
		verb(to, "start", "Starts it again.", &start, []field{{"node", "The node.", text(&start.Node)}}),
		verb(to, "reload", "Makes it read its configuration again.", &reload, []field{
			{"node", "The node.", text(&reload.Node)},
			{"weights", "For ipvs, how many of the new connections servers get from now on: {\"web:80\": 0}; 1 for one that is not named.", weights(&reload.Weights)},
			{"without", "For ipvs, servers that get no more packets.", endpoints(&reload.Without)},
		}),
		scalarVerb(to, "await", "Waits for the end of a step in the background.", &await, text(&await.Step)),
		scalarVerb(to, "sleep", "Does nothing for a time.", &sleep, duration(&sleep.For)),
	}
}
