/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of eep-run: every bad input is refused with a line that names option and value.
 */
#include "experiments/setup/options.h"

#include <criterion/criterion.h>
#include <string.h>

enum { MOST_ARGUMENTS = 48 };

/* Parse a line of words. */
static eep_status parse(const char *line, options *out, char error[OPTIONS_ERROR_BYTES])
{
    static char text[1024];
    char *argv[MOST_ARGUMENTS] = {(char *)"eep-run"}, *rest = NULL;
    int argc = 1;
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        argv[argc++] = word;
    }
    return options_parse(argc, argv, out, error);
}

static void refused(const char *line, const char *says)
{
    options out;
    char error[OPTIONS_ERROR_BYTES] = "";
    cr_expect_eq(parse(line, &out, error), EEP_ERR_INVALID, "%s", line);
    cr_expect(strstr(error, says), "%s: %s", line, error);
}

static void good(const char *line, options *out)
{
    char error[OPTIONS_ERROR_BYTES] = "";
    cr_assert_eq(parse(line, out, error), EEP_OK, "%s: %s", line, error);
}

Test(options, defaults_are_the_documented_ones)
{
    options o;
    good("", &o);
    cr_assert_eq(o.num_ranks, 8);
    cr_assert_eq(o.max_ranks, 8);
    cr_assert_eq(o.num_experts, 64);
    cr_assert_eq(o.num_slots, 16);
    cr_assert_eq(o.keep_busy, 0);
    cr_assert_eq(o.dtype, RANK_FP32);
    cr_assert(script_is_done(&o.script));
    cr_assert(o.script.num_events == 0 && o.script.cycle.num_kills == 0);
    cr_assert_geq(options_expert_bytes(&o) * 4 * 16, 32u << 20, "32 MB of weights per rank");
    cr_assert_not(o.store_process);
    eep_config context, preset;
    eep_config_init(&preset);
    cr_assert_eq(eep_config_profile(&preset, EEP_PROFILE_QUICK), EEP_OK);
    context = preset;
    rank_setup setup;
    options_fill_rank(&o, &setup);
    rank_setup_fill_context(&setup, &context);
    cr_assert_eq(context.kill_fence, preset.kill_fence);
    cr_assert_eq(context.expel_floor_us, preset.expel_floor_us);
    cr_assert_eq(context.step_deadline_us, preset.step_deadline_us);
    cr_assert_eq(context.drain_bound_us, preset.drain_bound_us);
}

/* Processes that share a GPU take turns: fewer and shorter, but what is given stays. */
Test(options, defaults_follow_from_the_device)
{
    options o;
    good("--device cuda", &o);
    cr_expect(o.num_ranks == 4 && o.max_ranks == 4 && o.num_layers == 2 && o.num_slots == 32);
    good("--device cuda --threads", &o);
    cr_expect(o.num_ranks == 8 && o.num_layers == 4 && o.num_slots == 16);
    good("--ranks 6 --layers 3 --slots 20 --device cuda", &o);
    cr_expect(o.num_ranks == 6 && o.num_layers == 3 && o.num_slots == 20);
    good("--ranks 2", &o);
    cr_expect(o.num_slots == 32 && o.slots_raised, "two ranks must hold 64 experts");
    good("--ranks 4", &o);
    cr_expect(o.num_slots == 16 && !o.slots_raised);
    good("--device guarded", &o);
    cr_expect(o.num_ranks == 8 && o.num_layers == 4 && o.num_slots == 16);
}

Test(options, values_arrive)
{
    options o;
    good(
        "--ranks 4 --max-ranks=6 --slots 32 --dtype bf16 --input 5:9 --output 7 --seed 99 --trace "
        "x "
        "--first 3 --scale-lengths 1/64 --corrupt drop --log-level debug --out d --force --kills 3",
        &o);
    cr_assert_eq(o.num_ranks, 4);
    cr_assert_eq(o.max_ranks, 6);
    cr_assert_eq(o.dtype, RANK_BF16);
    cr_assert_eq(o.input_min, 5);
    cr_assert_eq(o.input_max, 9);
    cr_assert_eq(o.output_min, 7);
    cr_assert_eq(o.output_max, 7);
    cr_assert_eq(o.trace.first, 3);
    cr_assert_eq(o.trace.scale_lengths.den, 64);
    cr_assert_eq(o.corrupt, ENGINE_CORRUPT_DROP);
    cr_assert_eq(o.log_level, EEP_LOG_DEBUG);
    cr_assert(o.force);
    cr_assert_eq(o.script.cycle.num_kills, 3);
    cr_assert_eq(o.keep_busy, 8, "closed loop with --kills");
}

/* A file in the folder that the tests run in, of its own name. */
static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    cr_assert_eq(fclose(file), 0);
}

Test(options, every_verb_has_its_flag)
{
    options o;
    write_file("verb-placement.json", "{\"number\": 1, \"ranks\": []}");
    good("--ranks 8 --max-ranks 10 --expel-ms 2000 --kill 0@1 --abort 1@1 --stop 2=0.5x@1 --cont "
         "2@9 --slow 3=4/2s@1 --die 4=experts@1 --freeze 6=dispatch/1s@1 --rejoin 0@2 --add "
         "vacant:2@2 --drain 5@1 --placement 6=verb-placement.json@1 "
         "--dummy-burn=1@1 --store-kill @1 --store-stop 100ms@1 --store-cont @2 --store-start @3",
         &o);
    cr_assert_eq(o.script.num_events, VERB_STORE_START + 1);
    cr_assert(o.store_process, "implied");
    cr_assert_eq(o.script.expel_ms, 2000);
    remove("verb-placement.json");
    options_free(&o);
}

#define AT_ETCD "--store etcd://127.0.0.1:2379?local=/run/eep "

/* Verbs of hosts, the number of ranks and what a node is follow from the file. */
Test(options, every_verb_of_hosts_has_its_flag)
{
    options o;
    write_file("verb-hosts.yaml",
               "hosts: [{name: h1, address: '10.0.0.1:7', agent: '10.0.0.1:8', ranks: 2},\n"
               "        {name: h2, address: '[fd00::2]:9', agent: '[fd00::2]:8', ranks: 2}]\n"
               "commands: {partition: p, one-way: o, delay: d, reset: r, heal: h, nic-down: n, "
               "nic-up: u}\n");
    good("--hosts verb-hosts.yaml " AT_ETCD
         "--host-kill h2@1 --host-start h2@2 --host-freeze h1/1s@1 --host-cont h1@2 "
         "--agent-kill h1@1 --agent-start h1@2 --partition h1|h2/1s@1 --one-way h1|h2@1 "
         "--delay h1|h2:5ms@1 --reset h1|h2@1 --heal @2 --nic-down h1@1 --nic-up h1@2 "
         "--rejoin 3=h1@3",
         &o);
    cr_assert_eq(o.script.num_events, NUM_VERBS - VERB_HOST_KILL + 1);
    cr_assert(o.num_ranks == 4 && o.ranks_per_node == 2 && o.bulk == EEP_BULK_UCX);
    cr_assert_str_eq(o.hosts->host[1].ip, "fd00::2");
    cr_assert(o.hosts->host[1].port == 9 && o.hosts->host[1].first_seat == 2);
    cr_assert_eq(hosts_file_home(o.hosts, 3), 1);
    cr_assert_eq(hosts_file_home(o.hosts, 4), 0, "a seat above goes round");
    options_free(&o);
    refused("--hosts verb-hosts.yaml " AT_ETCD "--host-kill h3@1",
            "--host-kill: 'h3' is no host of");
    refused("--hosts verb-hosts.yaml " AT_ETCD "--bulk shm", "--hosts: not with --bulk shm");
    refused("--hosts verb-hosts.yaml " AT_ETCD "--checkpoint-write d",
            "not with --checkpoint-write");
    refused("--hosts verb-hosts.yaml " AT_ETCD "--checkpoint d --cold-checkpoint",
            "--hosts: not with --cold-checkpoint");
    refused("--host-kill h1@1", "--host-kill: hosts need --hosts FILE");
    refused("--ranks 4 --kill 1@1 --rejoin 1=h1@2", "--rejoin: hosts need --hosts FILE");
    write_file("verb-hosts.yaml", "hosts: [{name: h1, address: '10.0.0.1:7', ranks: 2},\n"
                                  "        {name: h2, address: '10.0.0.2:7', ranks: 2}]\n"
                                  "commands: {nic-down: n, partition: p}\n");
    refused("--hosts verb-hosts.yaml " AT_ETCD "--one-way h1|h2@1", "has no command for one-way");
    refused("--hosts verb-hosts.yaml " AT_ETCD "--nic-down h1/1s@1",
            "has no command for nic-up, which ends it");
    refused("--hosts verb-hosts.yaml " AT_ETCD "--partition h1|h2/1s@1",
            "has no command for heal, which ends it");
    refused("--hosts verb-hosts.yaml " AT_ETCD "--agent-kill h1@1", "host h1 has no 'agent'");
    write_file("verb-hosts.yaml", "hosts: [{name: h1, address: 'node1:7', ranks: 2}]\n");
    refused("--hosts verb-hosts.yaml " AT_ETCD,
            "1:29: node1 is no address: names are not looked up");
    write_file("verb-hosts.yaml",
               "hosts: [{name: h1, address: '10.0.0.1:7', ranks: 2, agent: here}]\n");
    refused("--hosts verb-hosts.yaml " AT_ETCD, "'here' is not of the form ADDRESS:PORT");
    write_file("verb-hosts.yaml",
               "hosts: [{name: h1, address: '10.0.0.1:7', ranks: 2, agent: '10.0.0.1:7'}]\n");
    refused("--hosts verb-hosts.yaml " AT_ETCD,
            "the worker of host h1 listens at '10.0.0.1:7' already");
    write_file("verb-hosts.yaml",
               "hosts: [{name: h1, address: '10.0.0.1:7', ranks: 2, agent: '10.0.0.1:8'},\n"
               "{name: h2, address: '10.0.0.1:8', ranks: 2}]\n");
    refused("--hosts verb-hosts.yaml " AT_ETCD,
            "2:21: the agent of host h1 listens at '10.0.0.1:8' already");
    write_file("verb-hosts.yaml",
               "hosts: [{name: h1, address: '10.0.0.1:7', ranks: 2, store: /run/eep/store}]\n");
    refused("--hosts verb-hosts.yaml " AT_ETCD, "the store of host h1 '/run/eep/store' is of one");
    remove("verb-hosts.yaml");
}

/* What all ranks begin with, and one of them instead; a rank is told both, and finds its own. */
Test(options, first_placements_reach_the_ranks)
{
    options o;
    char text[RANK_SETUP_TEXT_BYTES];
    rank_setup setup, back;
    write_file("first-a.json", "{\"number\": 1, \"ranks\": []}");
    write_file("first-b.json", "{\"number\": 1, \"ranks\": [{\"rank\": 0, \"experts\": [7]}]}");
    good("--first-placement first-a.json --first-placement 3=first-b.json --checkpoint c", &o);
    options_fill_rank(&o, &setup);
    rank_setup_to_text(&setup, text);
    cr_assert_eq(rank_setup_from_text(text, &back), EEP_OK, "%s", text);
    cr_expect_str_eq(placement_first_of(&back.first_placement, 0), "first-a.json");
    cr_expect_str_eq(placement_first_of(&back.first_placement, 3), "first-b.json");
    cr_expect_str_eq(back.checkpoint, "c");
    good("--first-placement 3=first-b.json", &o);
    cr_expect_null(placement_first_of(&o.first_placement, 0));
    good("--first-placement 3=first-b.json --first-placement first-a.json", &o);
    cr_expect_eq(o.first_placement.num, 1, "of all: what was given before is void");
    remove("first-a.json");
    remove("first-b.json");
}

Test(options, placements_that_cannot_be_are_named)
{
    static const struct {
        const char *line, *names;
    } bad[] = {
        {"--first-placement absent.json", "--first-placement: absent.json: No such file"},
        {"--first-placement x=absent.json", "'x' in 'x=absent.json' is not a rank"},
        {"--first-placement 3=", "[RANK=]FILE"},
        {"--placement absent.json@1", "--placement: absent.json: No such file"},
        {"--placement absent.json@1 --background-rate 0", "--background-rate is 0"},
        {"--ranks 4 --first-placement 4=absent.json", "rank 4 does not exist"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        options o;
        char error[OPTIONS_ERROR_BYTES] = "";
        cr_expect_eq(parse(bad[i].line, &o, error), EEP_ERR_INVALID, "%s", bad[i].line);
        cr_expect(strstr(error, bad[i].names), "%s: %s", bad[i].line, error);
    }
}

Test(options, bad_input_is_named)
{
    static const struct {
        const char *line, *names;
    } bad[] = {
        {"--rank 4", "--rank"},
        {"serve", "serve"},
        {"--ranks", "needs a value"},
        {"--ranks 0", "'0' is not a whole number from 1 to 1024"},
        {"--ranks -1", "'-1'"},
        {"--ranks 8x", "'8x'"},
        {"--ranks 99999999999999999999", "--ranks"},
        {"--ranks 8 --max-ranks 4", "8 ranks are more than the 4 seats"},
        {"--topk 65 --experts 64", "--topk"},
        {"--topk 8 --experts 4", "8 is more than the 4 experts"},
        {"--ranks 2 --slots 16", "give at least 32 slots"},
        {"--ranks 2 --slots 31 --experts 64", "give at least 32 slots"},
        {"--seed 9007199254740993", "'9007199254740993' is not a whole number"},
        {"--seed 9007199254740994", "to 9007199254740992"},
        {"--rate nan", "'nan'"},
        {"--rate 0", "'0'"},
        {"--rate 1e999", "--rate"},
        {"--rate 0x10", "'0x10' is not a number"},
        {"--input 9:5", "'9:5'"},
        {"--input 0:5", "'0:5'"},
        {"--input 5:", "'5:'"},
        {"--dtype fp4", "'fp4' is not one of fp32|bf16|fp8"},
        {"--device tpu", "'tpu'"},
        {"--baseline halt", "'halt' is not one of none|restart"},
        {"--baseline restart --threads", "leave out --threads"},
        {"--baseline restart --kill 3@1 --rejoin 3@2", "leave out --rejoin"},
        {"--baseline restart --kills 2", "leave out --kills"},
        {"--baseline restart --plan x", "leave out --plan"},
        {"--cold-checkpoint", "--cold-checkpoint needs --checkpoint DIR"},
        {"--trace=", "--trace"},
        {"--scale-lengths 0", "'0'"},
        {"--scale-lengths 1/64", "need --trace"},
        {"--quiet=1", "takes no value"},
        {"--kill 3", "RANK@TIME"},
        {"--kill @3", "'@3'"},
        {"--kill x@3", "'x'"},
        {"--kill 3@-1", "'-1'"},
        {"--kill 3@1h", "'1h'"},
        {"--kill 3@inf", "'inf'"},
        {"--kill 8@1", "rank 8 does not exist: the seats are 0 to 7"},
        {"--kill 3@1 --kill 3@2", "no process"},
        {"--rejoin 3@1", "still has its process"},
        {"--kill 3@2 --rejoin 3@1", "still has its process"},
        {"--kill lowest@2 --rejoin proposer@3", "no earlier --kill"},
        {"--kill lowest@2 --rejoin lowest@3 --rejoin lowest@4", "no earlier --kill"},
        {"--dummy-burn x@1", "number of seconds"},
        {"--kills 1.5", "'1.5'"},
        {"--store-kill @1 --store x", "not ours"},
        {"--store x --store-process", "not ours"},
        {"--checkpoint a --checkpoint-write b", "leave out --checkpoint"},
        {"--expel-ms 0", "'0'"},
        {"--no-kill-fence=1", "takes no value"},
        {"--expert-us 5 --device cuda", "--device host or guarded"},
        {"--chains 3", "'3'"},
        {"--die 2=dispatch.1@3", "--chains 2"},
        {"--freeze 2=experts.1@3 --chains 1", "--chains 2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        options o;
        char error[OPTIONS_ERROR_BYTES] = "";
        cr_expect_eq(parse(bad[i].line, &o, error), EEP_ERR_INVALID, "taken: %s", bad[i].line);
        cr_expect(strstr(error, bad[i].names), "%s: said '%s', not '%s'", bad[i].line, error,
                  bad[i].names);
        cr_expect_null(strchr(error, '\n'));
    }
}

Test(options, a_rank_gets_what_it_needs)
{
    options o;
    rank_setup setup, back;
    char text[RANK_SETUP_TEXT_BYTES];
    good("--ranks 3 --max-ranks 5 --slots 40 --seed 9007199254740992 --dtype fp8 --corrupt stale "
         "--log-level info --device cuda --no-kill-fence --expel-ms 250.5 --step-deadline-ms 300 "
         "--drain-bound-ms 400",
         &o);
    options_fill_rank(&o, &setup);
    rank_setup_to_text(&setup, text);
    cr_assert_eq(rank_setup_from_text(text, &back), EEP_OK);
    engine_config left, right;
    rank_setup_fill_engine(&setup, &left);
    rank_setup_fill_engine(&back, &right);
    cr_assert_eq(left.seed, right.seed);
    cr_assert_eq(left.num_slots, right.num_slots);
    cr_assert_eq(left.dtype, right.dtype);
    cr_assert_eq(left.corrupt, right.corrupt);
    cr_assert_str_eq(back.device, "cuda");
    good("--expert-us 150 --chains 2 --die 2=combine.1@3", &o);
    options_fill_rank(&o, &setup);
    rank_setup_to_text(&setup, text);
    cr_assert_eq(rank_setup_from_text(text, &setup), EEP_OK);
    rank_setup_fill_engine(&setup, &right);
    cr_assert_eq(right.expert_us, 150);
    cr_assert_eq(right.num_chains, 2);
    options_free(&o);
    eep_config context = {0};
    rank_setup_fill_context(&setup, &context);
    cr_assert_eq(context.num_chains, 2);
    rank_setup_fill_context(&back, &context);
    cr_assert_eq(context.num_ranks, 3);
    cr_assert_eq(context.max_ranks, 5);
    cr_assert_eq(context.log_level, EEP_LOG_INFO);
    cr_assert_eq(context.kill_fence, 0);
    cr_assert_eq(context.expel_floor_us, 250500);
    cr_assert_eq(context.step_deadline_us, 300000);
    cr_assert_eq(context.drain_bound_us, 400000);
    static const char *const devices[] = {"host", "guarded", "cuda"};
    for (int i = 0; i < 3; i++) {
        o.device = devices[i];
        options_fill_rank(&o, &setup);
        rank_setup_to_text(&setup, text);
        cr_assert_eq(rank_setup_from_text(text, &back), EEP_OK);
        cr_assert_str_eq(back.device, devices[i]);
    }
    cr_assert_null(back.checkpoint);
    o.checkpoint = "/a folder/with 2 spaces ";
    options_fill_rank(&o, &setup);
    rank_setup_to_text(&setup, text);
    cr_assert_eq(rank_setup_from_text(text, &back), EEP_OK);
    cr_assert_str_eq(back.checkpoint, o.checkpoint);
    cr_assert_eq(back.drain_bound_ms, setup.drain_bound_ms);
    cr_assert_eq(rank_setup_from_text("1 2 3", &back), EEP_ERR_PROTOCOL);
    cr_assert_eq(rank_setup_from_text("", &back), EEP_ERR_PROTOCOL);
}
