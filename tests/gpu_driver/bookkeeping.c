/* The bookkeeping of the stand-in driver: a list of what is open, a log, and counters for faults.
 *
 * It is part of libcuda.so.1. The other two libraries call it there.
 */
#include "bookkeeping.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of all that follows, and of the log */
static struct thing *things;
static long allocations, decoded_pictures;

static void write_line(const char *kind, const char *format, va_list arguments)
{
    const char *path = getenv("GPU_DRIVER_LOG");
    FILE *log = path ? fopen(path, "a") : stderr;
    if (!log)
        log = stderr;
    flockfile(log);
    fprintf(log, "%s: ", kind);
    vfprintf(log, format, arguments);
    fputc('\n', log);
    funlockfile(log);
    if (log != stderr)
        fclose(log);
}

void driver_complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line("complaint", format, arguments);
    va_end(arguments);
}

void driver_record(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line("record", format, arguments);
    va_end(arguments);
}

long driver_number(const char *name, long otherwise)
{
    const char *value = getenv(name);
    return value && *value ? strtol(value, NULL, 10) : otherwise;
}

static long counted(long *counter)
{
    pthread_mutex_lock(&mutex);
    long count = ++*counter;
    pthread_mutex_unlock(&mutex);
    return count;
}

int driver_allocation_fails(void)
{
    return counted(&allocations) == driver_number("GPU_DRIVER_OUT_OF_MEMORY_AT", 0);
}

int driver_decoding_fails(void)
{
    return counted(&decoded_pictures) == driver_number("GPU_DRIVER_DECODE_ERROR_AT", 0);
}

void driver_opened(const char *kind, const void *handle, size_t size)
{
    struct thing *thing = malloc(sizeof *thing);
    pthread_mutex_lock(&mutex);
    *thing = (struct thing){kind, handle, size, driver_current_context(), 0, things};
    things = thing;
    pthread_mutex_unlock(&mutex);
}

/* The place in the list that points to an entry; to NULL where there is none. Needs the mutex. */
static struct thing **place_of(const char *kind, const void *handle)
{
    struct thing **place = &things;
    while (*place && ((*place)->handle != handle || strcmp((*place)->kind, kind) != 0))
        place = &(*place)->next;
    return place;
}

void driver_closed(const char *kind, const void *handle)
{
    pthread_mutex_lock(&mutex);
    struct thing **place = place_of(kind, handle), *thing = *place;
    if (thing)
        *place = thing->next;
    pthread_mutex_unlock(&mutex);
    if (!thing)
        driver_complain("%s %p is given back, but is not open", kind, handle);
    free(thing);
}

int driver_is_open(const char *kind, const void *handle, struct thing *found)
{
    pthread_mutex_lock(&mutex);
    struct thing *thing = *place_of(kind, handle);
    if (thing && found)
        *found = *thing;
    pthread_mutex_unlock(&mutex);
    return thing != NULL;
}

void driver_need_context(CUcontext wanted, const char *call)
{
    CUcontext current = driver_current_context();
    if (!current)
        driver_complain("%s: no context is current", call);
    else if (current != wanted)
        driver_complain("%s: another context is current than the one it belongs to", call);
}

/* Copies the entry whose memory has this byte; says whether there is one. */
static int memory_around(const char *byte, struct thing *found)
{
    pthread_mutex_lock(&mutex);
    struct thing *thing = things;
    while (thing && (byte < (const char *)thing->handle
                     || byte >= (const char *)thing->handle + thing->size))
        thing = thing->next;
    if (thing)
        *found = *thing;
    pthread_mutex_unlock(&mutex);
    return thing != NULL;
}

void driver_need_memory(const void *start, size_t pitch, size_t width, size_t rows,
                        const char *call)
{
    const char *end = (const char *)start + (rows ? (rows - 1) * pitch + width : 0);
    struct thing memory;
    if (!memory_around(start, &memory)) {
        driver_complain("%s: %p is no memory on the device", call, start);
        return;
    }
    if (memory.owner != driver_current_context())
        driver_complain("%s: the memory belongs to another context", call);
    if (end > (const char *)memory.handle + memory.size)
        driver_complain("%s: %zu rows of %zu bytes do not fit the memory of %zu bytes", call, rows,
                        pitch, memory.size);
}

void driver_begin(void)
{
    pthread_mutex_lock(&mutex);
    allocations = decoded_pictures = 0;
    pthread_mutex_unlock(&mutex);
}

void driver_end(void)
{
    pthread_mutex_lock(&mutex);
    for (struct thing *thing = things; thing; thing = thing->next) {
        if (!thing->is_told)
            driver_complain("%s %p was not given back (%zu bytes)", thing->kind, thing->handle,
                            thing->size);
        thing->is_told = 1;
    }
    pthread_mutex_unlock(&mutex);
}
