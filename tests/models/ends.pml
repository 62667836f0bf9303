/* SPDX-License-Identifier: Apache-2.0 */
/* Ends: a seat that is taken on one host or another, and what shows that a process has ended.
 *
 * Rules covered (docs/PROTOCOL.md):
 * - N8: a newer generation shows its predecessor's end only if it took the seat on the same host,
 *   under the lock of the seat's file. On another host it takes a seat once that is fenced.
 * - N9: "ended" is said only from a descriptor that was held while the process lived, or from that
 *   lock. That nothing is found proves nothing.
 * - N12: an agent that comes anew has seen nothing. M7: two processes of one host never have a seat.
 *
 * Asserted:
 * - P8: whoever is believed to have ended stores nothing any more.
 * - M7: on one host one process at most has the seat.
 *
 * Processes 0 to PROCESSES - 1 come to the seat one after the other, each on host 0 or 1. Each may
 * be expelled alive, which fences the seat for the other host, and may live on for ever. A process
 * holds the lock of its host's file while it lives. The agent of a host is attached to those that
 * came while it ran. It may die, and the next one knows nobody.
 *
 * Left out: views and their agreement, gates (gate.pml), generations as numbers. */
#ifndef PROCESSES
#define PROCESSES 3
#endif
#define HOSTS 2
#define NONE 255
#define BIT(i) (1 << (i))

byte num;               /* processes that have come */
byte host[PROCESSES];
byte lives, ended;      /* a bit each: it may store; it is believed to have ended */
byte fenced;            /* expelled, and behind gates for the other host */
byte lock[HOSTS] = NONE; /* who holds the file's lock */
byte attached[HOSTS];   /* whose descriptors the agent holds */

inline believe(p)
{
    ended = ended | BIT(p);
    assert(!(lives & BIT(p)))
}

/* Of the process before, on host h: what the file's lock shows to who takes it. */
inline take_seat(h)
{
    assert(lock[h] == NONE);
    host[num] = h;
    lock[h] = num;
    lives = lives | BIT(num);
    attached[h] = attached[h] | BIT(num);
    if
#ifdef A_SUCCESSOR_ELSEWHERE_SHOWS_IT
    :: num > 0 && !(ended & BIT(num - 1)) -> believe(num - 1)
#else
    :: num > 0 && host[num - 1] == h && !(ended & BIT(num - 1)) -> believe(num - 1)
#endif
    :: else -> skip
    fi;
    num++
}

active proctype comes()
{
end:
    do
    /* the same host: its lock is free */
    :: d_step { num < PROCESSES && num > 0 && host[num - 1] == 0 && lock[0] == NONE -> take_seat(0) }
    :: d_step { num < PROCESSES && num > 0 && host[num - 1] == 1 && lock[1] == NONE -> take_seat(1) }
    /* another one: fenced, or its end was told */
    :: d_step { num < PROCESSES && num > 0 && host[num - 1] == 1 && lock[0] == NONE &&
                ((fenced | ended) & BIT(num - 1)) -> take_seat(0) }
    :: d_step { num < PROCESSES && num > 0 && host[num - 1] == 0 && lock[1] == NONE &&
                ((fenced | ended) & BIT(num - 1)) -> take_seat(1) }
    :: d_step { num == 0 -> take_seat(0) }
    od
}

active proctype dies()
{
    byte p;

end:
    do
    :: d_step { p < num && (lives & BIT(p)) -> lives = lives & ~BIT(p); lock[host[p]] = NONE }
    :: d_step { p < num && !(fenced & BIT(p)) -> fenced = fenced | BIT(p) }
    :: d_step { p + 1 < num -> p++ }
    :: d_step { p > 0 -> p = 0 }
    od
}

active [HOSTS] proctype agent()
{
    byte p;

end:
    do
    /* a descriptor that it holds fires */
    :: d_step { p < num && (attached[_pid - 2] & BIT(p)) && !(lives & BIT(p)) &&
                !(ended & BIT(p)) -> believe(p) }
#ifdef ABSENCE_IS_AN_END
    /* it looks for a number, in its own namespace */
    :: d_step { p < num && !(attached[_pid - 2] & BIT(p)) && !(ended & BIT(p)) -> believe(p) }
#endif
    /* nobody holds the lock of its host's file, in which that process is named last */
#ifdef ANY_FREE_LOCK_SHOWS_IT
    :: d_step { p < num && lock[_pid - 2] == NONE && !(ended & BIT(p)) -> believe(p) }
#else
    :: d_step { p + 1 == num && host[p] == _pid - 2 && lock[_pid - 2] == NONE &&
                !(ended & BIT(p)) -> believe(p) }
#endif
    /* it dies, and the next one comes */
    :: d_step { attached[_pid - 2] != 0 -> attached[_pid - 2] = 0 }
    :: d_step { p + 1 < num -> p++ }
    :: d_step { p > 0 -> p = 0 }
    od
}
