/* What the three stand-in libraries share: who owns what, what is wrong, which faults are wanted.
 *
 * A test's wishes are environment variables, read each time they matter:
 *   GPU_DRIVER_LOG                file for complaints and for the settings of opened encoders
 *   GPU_DRIVER_DEVICES            how many GPUs this host has (1)
 *   GPU_DRIVER_NVENC              "none": no GPU opens an encoder; "last": only the last of the host
 *   GPU_DRIVER_OUT_OF_MEMORY_AT   the allocation that fails, counted from 1
 *   GPU_DRIVER_DECODE_ERROR_AT    the picture that does not decode, counted from 1
 *   GPU_DRIVER_PARAMETER_SETS     another number gives other parameter sets, like another driver
 */
#ifndef BOOKKEEPING_H
#define BOOKKEEPING_H

#include <stddef.h>
#include <stdint.h>

/* CUDA's own names and numbers, from its public header cuda.h. */
typedef int CUresult;
typedef int CUdevice;
typedef struct context *CUcontext;
typedef void *CUstream;
typedef unsigned long long CUdeviceptr;

enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_NOT_SUPPORTED = 801,
};

/* One thing that somebody opened and has to give back. All functions may be called by any thread. */
struct thing {
    const char *kind;
    const void *handle; /* for memory: its first byte */
    size_t size;        /* in bytes; 0 for what is no memory */
    CUcontext owner;    /* the context that was current then */
    int is_told;        /* it was complained of as never given back */
    struct thing *next;
};

/* A line of the log that fails the test, and one that only tells. */
void driver_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
void driver_record(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The number in an environment variable; `otherwise` where it is not set. */
long driver_number(const char *name, long otherwise);

/* Counts an allocation, and says whether it is the one that has to fail. */
int driver_allocation_fails(void);

/* Counts a picture to decode, and says whether it is the one that has to fail. */
int driver_decoding_fails(void);

/* Notes that something was opened in the current context. */
void driver_opened(const char *kind, const void *handle, size_t size);

/* Notes that it was given back; complains where it is not open. */
void driver_closed(const char *kind, const void *handle);

/* Whether something is open. Where `found` is not NULL, it becomes a copy of its entry. */
int driver_is_open(const char *kind, const void *handle, struct thing *found);

/* Complains unless this thread's current context is `wanted`. `call` is for the complaint. */
void driver_need_context(CUcontext wanted, const char *call);

/* Complains unless `rows` of `pitch` bytes, the last only `width`, lie in open device memory. */
void driver_need_memory(const void *start, size_t pitch, size_t width, size_t rows,
                        const char *call);

/* The device of a context among all of the host, counted from 0. */
int driver_device_of(CUcontext context);
int driver_host_devices(void);

CUcontext driver_current_context(void);

/* For the test: forgets the counts; complains once about everything that is still open. */
void driver_begin(void);
void driver_end(void);

#endif
