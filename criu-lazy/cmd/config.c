/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config.c - CRIU's configuration files.
 *
 * What is accepted was found out by trying CRIU 4.2.1.  On purpose not the same: CRIU cuts a quoted
 * value at a '#', and drops one word after a value; both are errors here, because the user meant
 * something else.  It ignores files that cannot be read; here only default files may be absent.
 * Option names cannot be abbreviated in a file.
 */
#include "criu-lazy/cmd/config.h"

#include "criu-lazy/base/cleanup.h"
#include "criu-lazy/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of CRIU 4.1.1 and 4.2.1, for commands other than lazy-pages and page-server. */
static const char *const elsewhere[] = {
	"all",
	"allow-uprobes",
	"cgroup-dump-controller",
	"cgroup-props",
	"cgroup-props-file",
	"cgroup-root",
	"cgroup-yard",
	"close",
	"cpu-cap",
	"deprecated",
	"display-stats",
	"empty-ns",
	"enable-external-masters",
	"enable-external-sharing",
	"enable-fs",
	"evasive-devices",
	"exec-cmd",
	"experimental",
	"ext-mount-map",
	"ext-unix-sk",
	"external",
	"extra",
	"feature",
	"file-locks",
	"file-validation",
	"force-irmap",
	"freeze-cgroup",
	"ghost-fiemap",
	"ghost-limit",
	"inherit-fd",
	"irmap-scan-path",
	"join-ns",
	"leave-running",
	"leave-stopped",
	"libdir",
	"link-remap",
	"log-pid",
	"lsm-mount-context",
	"lsm-profile",
	"manage-cgroups",
	"mntns-compat-mode",
	"ms",
	"network-lock",
	"pre-dump-mode",
	"restore-sibling",
	"root",
	"shell-job",
	"skip-file-rwx-check",
	"skip-in-flight",
	"skip-mnt",
	"tcp-close",
	"tcp-established",
	"timeout",
	"track-mem",
	"tree",
	"unprivileged",
	"veth-pair",
	"weak-sysctls",
};

/*
 * Of some of our own commands: a file may be shared by them.  And those of CRIU's that only the
 * page server takes.
 */
static const char *const ours[] = {
	"action-script",
	"background",
	"fd-store",
	"filter",
	"jobs",
	"keep",
	"low-latency",
	"force",
	"no-compress",
	"no-guardian",
	"on-guardian-death",
	"on-lost",
	"once",
	"prev-images-dir",
	"progress",
	"protocol",
	"reconnect-timeout",
	"socket",
	"trust-newer-images",
	"unix",
};

/* Of the command line only. */
static const char *const not_here[] = {"config", "help", "no-default-config", "version"};

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static bool is_in(const char *const *names, size_t nr, const char *name)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

bool config_is_elsewhere(const char *name)
{
	return is_in(elsewhere, NR(elsewhere), strncmp(name, "no-", 3) ? name : name + 3);
}

void config_help(void)
{
	puts("      --config FILE       read options from FILE, too: see criu-lazy(8)\n"
	     "      --no-default-config\n"
	     "                          do not read /etc/criu/default.conf and\n"
	     "                          ~/.criu/default.conf");
}

static const struct option *find(const struct option *longs, const char *name)
{
	for (; longs->name; longs++)
		if (!strcmp(longs->name, name))
			return longs;
	return NULL;
}

/* --- one line -------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static char *skip_blanks(char *at)
{
	while (is_blank(*at))
		at++;
	return at;
}

static bool at_end(const char *at)
{
	return !*at || *at == '#';
}

/* Where the story of an error is. */
struct place {
	const char *file;
	unsigned line;
};

static int bad(const struct place *p, struct err *err, const char *what, const char *name)
{
	return err_set(err, EINVAL, "%s:%u: %s \"%.80s\"", p->file, p->line, what, name);
}

/*
 * The value at `at`, of which the escapes are removed in place.  A \" is a quote that does not end
 * the value; other backslashes stand for themselves.
 */
static int take_value(char *at, const struct option *option, char **ret, const struct place *p,
                      struct err *err)
{
	bool quoted = *at == '"';
	char *from = at + quoted, *to = from;

	*ret = to;
	for (; *from; from++) {
		if (quoted ? *from == '"' : is_blank(*from) || *from == '#')
			break;
		if (*from == '#')
			return bad(p, err, "within quotes, too, # begins a comment: option",
			           option->name);
		if (from[0] == '\\' && from[1] == '"')
			from++;
		*to++ = *from;
	}
	if (quoted && !*from)
		return bad(p, err, "the closing quote is missing: option", option->name);
	from += quoted;
	if (quoted && !at_end(from) && !is_blank(*from))
		return bad(p, err, "something follows the closing quote:", from);
	from = skip_blanks(from);
	if (!at_end(from))
		return bad(p, err, "something follows the value (quotes needed?):", from);
	*to = '\0';
	return 0;
}

static int add_item(struct config *config, const struct place *p, const char *name,
                    const char *value, struct err *err)
{
	struct config_item *items = config->items;
	char *arg;

	if (config->nr == config->room) {
		size_t room = config->room ? 2 * config->room : 16;

		items = reallocarray(items, room, sizeof(*items));
		if (!items)
			return err_set(err, ENOMEM, "%s", p->file);
		config->items = items;
		config->room = room;
	}
	if (asprintf(&arg, "--%s%s%s", name, value ? "=" : "", value ? value : "") < 0)
		return err_set(err, ENOMEM, "%s", p->file);
	items[config->nr++] = (struct config_item){.arg = arg, .file = p->file, .line = p->line};
	return 0;
}

/* What follows the name, at `at`, is this option's value, or nothing. */
static int parse_value(char *at, char delimiter, const struct option *option, char **ret,
                       const struct place *p, struct err *err)
{
	if (delimiter != '=')
		at = skip_blanks(at);
	*ret = NULL;
	if (delimiter != '=' && at_end(at)) {
		if (option->has_arg == required_argument)
			return bad(p, err, "a value is missing for option", option->name);
		return 0;
	}
	if (option->has_arg == no_argument)
		return bad(p, err, "no value may follow option", option->name);
	return take_value(at, option, ret, p, err);
}

/* line is ended by a zero byte and will be changed. */
static int parse_line(struct config *config, char *line, const struct place *p,
                      const struct option *longs, struct err *err)
{
	char *name = skip_blanks(line), *at = name, *value, delimiter;
	const struct option *option;
	int r;

	if (at_end(name))
		return 0;
	while (!at_end(at) && !is_blank(*at) && *at != '=')
		at++;
	delimiter = *at;
	*at = '\0';
	if (config_is_elsewhere(name))
		return 0;
	if (is_in(not_here, NR(not_here), name))
		return bad(p, err, "only for the command line:", name);
	option = find(longs, name);
	if (!option && is_in(ours, NR(ours), name))
		return 0;
	if (!option)
		return bad(p, err, "unknown option", name);
	/* A name that the line's end or a comment follows has nothing after it. */
	r = parse_value(is_blank(delimiter) || delimiter == '=' ? at + 1 : at, delimiter, option,
	                &value, p, err);
	if (r < 0)
		return r;
	return add_item(config, p, name, value, err);
}

int config_parse(struct config *config, const char *file, const char *text, size_t len,
                 const struct option *longs, struct err *err)
{
	struct place p = {.file = file};
	const char *end;
	int r;

	if (memchr(text, 0, len))
		return err_set(err, EINVAL, "%s: not a text file", file);
	for (; len; len -= (size_t)(end - text), text = end) {
		cleanup_free char *line = NULL;

		end = memchr(text, '\n', len);
		line = strndup(text, end ? (size_t)(end - text) : len);
		end = end ? end + 1 : text + len;
		if (!line)
			return err_set(err, ENOMEM, "%s", file);
		p.line++;
		r = parse_line(config, line, &p, longs, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- files ----------------------------------------------------------------------------------- */

static int read_text(int fd, const char *name, char **ret, size_t *ret_len, struct err *err)
{
	cleanup_free char *text = malloc(CONFIG_MAX_SIZE + 1);
	size_t len = 0;
	ssize_t n;

	if (!text)
		return err_set(err, ENOMEM, "%s", name);
	while ((n = read(fd, text + len, CONFIG_MAX_SIZE + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return err_set(err, errno, "configuration file %s", name);
	if (len > CONFIG_MAX_SIZE)
		return err_set(err, EINVAL, "configuration file %s: larger than %d bytes", name,
		               CONFIG_MAX_SIZE);
	*ret = steal_ptr(&text);
	*ret_len = len;
	return 0;
}

/* Takes the name, an allocated string. */
static int read_file(struct config *config, char *name, bool may_be_absent,
                     const struct option *longs, struct err *err)
{
	cleanup_free char *text = NULL;
	cleanup_close int fd = -1;
	size_t len = 0;
	int r;

	if (!name)
		return err_set(err, ENOMEM, "configuration files");
	config->files[config->nr_files++] = name;
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && may_be_absent && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return err_set(err, errno, "configuration file %s", name);
	r = read_text(fd, name, &text, &len, err);
	return r < 0 ? r : config_parse(config, name, text, len, longs, err);
}

static int read_defaults(struct config *config, const struct option *longs, struct err *err)
{
	const char *home = getenv("HOME");
	char *name;
	int r = read_file(config, strdup("/etc/criu/default.conf"), true, longs, err);

	if (r < 0 || !home)
		return r;
	return read_file(config, asprintf(&name, "%s/.criu/default.conf", home) < 0 ? NULL : name,
	                 true, longs, err);
}

/* --- the command line ------------------------------------------------------------------------ */

/* The two options that say which files.  Errors are left for who parses in earnest. */
static bool look_for_options(int argc, char **argv, const char *shorts, const struct option *longs,
                             const char **ret_file)
{
	bool defaults = true;
	int c, at = -1;

	*ret_file = NULL;
	opterr = 0;
	optind = 0;
	for (; (c = getopt_long(argc, argv, shorts, longs, &at)) != -1; at = -1) {
		if (c == '?' || c == ':' || at < 0)
			continue;
		if (!strcmp(longs[at].name, "config")) {
			*ret_file = optarg;
			defaults = false;
		} else if (!strcmp(longs[at].name, "no-default-config")) {
			defaults = false;
		}
	}
	return defaults;
}

static int join(struct config *config, int argc, char **argv, struct err *err)
{
	size_t i, nr = config->nr + (size_t)argc;

	config->argv = calloc(nr + 1, sizeof(*config->argv));
	if (!config->argv)
		return err_set(err, ENOMEM, "configuration files");
	config->argv[0] = argv[0];
	for (i = 0; i < config->nr; i++)
		config->argv[1 + i] = config->items[i].arg;
	memcpy(config->argv + 1 + config->nr, argv + 1, ((size_t)argc - 1) * sizeof(*argv));
	config->argc = (int)nr;
	return 0;
}

int config_prepend(struct config *config, int argc, char **argv, const char *shorts,
                   const struct option *longs, struct err *err)
{
	const char *named = getenv("CRIU_CONFIG_FILE"), *file;
	int r = 0;

	if (look_for_options(argc, argv, shorts, longs, &file))
		r = read_defaults(config, longs, err);
	if (r == 0 && named && *named)
		r = read_file(config, strdup(named), false, longs, err);
	if (r == 0 && file)
		r = read_file(config, strdup(file), false, longs, err);
	return r < 0 ? r : join(config, argc, argv, err);
}

int config_blame(const struct config *config, int index, struct err *err)
{
	const struct config_item *item;

	if (index < 1 || (size_t)index > config->nr)
		return -err->code;
	item = &config->items[index - 1];
	return err_wrap(err, "%s:%u", item->file, item->line);
}

void config_release(struct config *config)
{
	size_t i;

	for (i = 0; i < config->nr; i++)
		free(config->items[i].arg);
	for (i = 0; i < config->nr_files; i++)
		free(config->files[i]);
	free(config->items);
	free(config->argv);
	*config = (struct config){0};
}
