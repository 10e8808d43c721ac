/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The verbs, each in a file of its name. They take what follows the verb and return the exit code. */
#ifndef VERBS_H
#define VERBS_H

int verb_check(char **arguments);
int verb_start(char **arguments);
int verb_launch(char **arguments);
int verb_console(char **arguments);
int verb_status(char **arguments);
int verb_events(char **arguments);
int verb_weight(char **arguments);
int verb_pause(char **arguments);
int verb_resume(char **arguments);
int verb_stop(char **arguments);
int verb_handover(char **arguments);
int verb_eject(char **arguments);
int verb_vanish(char **arguments);

#endif
