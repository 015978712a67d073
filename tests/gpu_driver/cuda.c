/* libcuda.so.1 of the stand-in driver: devices, contexts and memory.
 *
 * Memory "on the device" is host memory, and every stream is finished at once. What the real driver
 * leaves undefined is complained of here: a pointer of another context, a copy that leaves its
 * memory, something freed twice or never. Only what FFmpeg's hwcontext_cuda.c, nvenc.c and nvdec.c
 * call does anything. FFmpeg's loader wants the other names to exist.
 */
#include "bookkeeping.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEVICES = 16, DEEPEST = 32, ALLOCATION_BYTES = 256, TEXTURE_ALIGNMENT = 512 };

struct context {
    int device; /* of the host */
    int is_primary;
};

static struct context primary[MOST_DEVICES];

/* Each thread has a stack of contexts. The one on top is current. */
static __thread CUcontext stack[DEEPEST];
static __thread int depth;

/* Devices */

int driver_host_devices(void)
{
    return (int)driver_number("GPU_DRIVER_DEVICES", 1);
}

/* The devices that CUDA_VISIBLE_DEVICES leaves, in its order; gives how many. */
static int visible_devices(int found[MOST_DEVICES])
{
    const char *wanted = getenv("CUDA_VISIBLE_DEVICES");
    int count = 0;
    if (!wanted) {
        for (; count < driver_host_devices() && count < MOST_DEVICES; count++)
            found[count] = count;
        return count;
    }
    while (*wanted && count < MOST_DEVICES) {
        char *rest;
        long device = strtol(wanted, &rest, 10);
        if (rest == wanted || device < 0 || device >= driver_host_devices())
            break; /* as in CUDA: what stands behind an invalid one is not visible */
        found[count++] = (int)device;
        wanted = *rest == ',' ? rest + 1 : rest;
    }
    return count;
}

CUresult cuInit(unsigned flags)
{
    int found[MOST_DEVICES];
    (void)flags;
    return visible_devices(found) ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

CUresult cuDriverGetVersion(int *version)
{
    *version = 12080;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
    int found[MOST_DEVICES];
    *count = visible_devices(found);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    int found[MOST_DEVICES];
    if (ordinal < 0 || ordinal >= visible_devices(found))
        return CUDA_ERROR_INVALID_DEVICE;
    *device = found[ordinal];
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    snprintf(name, (size_t)length, "stand-in %d", device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
    (void)device;
    *major = 7, *minor = 5;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device)
{
    (void)device;
    *value = attribute == 14 ? TEXTURE_ALIGNMENT : 0; /* CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT */
    return CUDA_SUCCESS;
}

/* Contexts */

CUcontext driver_current_context(void)
{
    return depth ? stack[depth - 1] : NULL;
}

int driver_device_of(CUcontext context)
{
    return context->device;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    *context = driver_current_context();
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    depth -= depth > 0;
    if (context)
        stack[depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    if (!context)
        driver_complain("cuCtxPushCurrent: there is no context");
    if (!context || depth == DEEPEST)
        return CUDA_ERROR_INVALID_CONTEXT;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    if (!depth) {
        driver_complain("cuCtxPopCurrent: no context is current");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    *context = stack[--depth];
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device)
{
    (void)flags;
    *context = calloc(1, sizeof **context);
    (*context)->device = device;
    driver_opened("context", *context, 0);
    return cuCtxPushCurrent_v2(*context);
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
    if (context->is_primary)
        driver_complain("cuCtxDestroy: this is torch's context");
    else
        driver_closed("context", context);
    if (depth && stack[depth - 1] == context)
        depth--;
    return CUDA_SUCCESS; /* its memory stays: a late use is told of, and does not crash */
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    CUcontext current = driver_current_context();
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    *device = current->device;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    primary[device] = (struct context){device, 1};
    *context = &primary[device];
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    *flags = 0;
    *active = primary[device].is_primary;
    return CUDA_SUCCESS;
}

/* Memory */

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t size)
{
    if (!driver_current_context())
        driver_complain("cuMemAlloc: no context is current");
    void *memory = driver_allocation_fails() ? NULL : aligned_alloc(
        ALLOCATION_BYTES, (size + ALLOCATION_BYTES - 1) / ALLOCATION_BYTES * ALLOCATION_BYTES);
    if (memory) {
        memset(memory, 0xAA, size); /* nobody may rely on zeros */
        driver_opened("memory", memory, size);
        *pointer = (CUdeviceptr)(uintptr_t)memory;
    }
    return memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFree_v2(CUdeviceptr pointer)
{
    void *memory = (void *)(uintptr_t)pointer;
    struct thing thing;
    if (!driver_is_open("memory", memory, &thing)) {
        driver_complain("cuMemFree: %p is no memory on the device", memory);
        return CUDA_ERROR_INVALID_VALUE;
    }
    driver_need_context(thing.owner, "cuMemFree");
    if (driver_is_open("registered resource", memory, NULL))
        driver_complain("cuMemFree: the memory is still registered with an encoder");
    driver_closed("memory", memory);
    free(memory);
    return CUDA_SUCCESS;
}

CUresult cuMemsetD8Async(CUdeviceptr pointer, unsigned char value, size_t size, CUstream stream)
{
    (void)stream;
    driver_need_memory((void *)(uintptr_t)pointer, size, size, 1, "cuMemsetD8Async");
    memset((void *)(uintptr_t)pointer, value, size);
    return CUDA_SUCCESS;
}

/* One side of a copy, and the copy, in the order of CUDA's header. */
struct side {
    size_t x, y;
    int memory_type; /* 1 is the host's, 2 the device's */
    void *host;
    CUdeviceptr device;
    void *array;
    size_t pitch;
};

struct copy {
    struct side from, to;
    size_t width, rows; /* the width in bytes */
};

static char *start_of(const struct side *side, size_t width, size_t rows)
{
    char *base = side->memory_type == 2 ? (char *)(uintptr_t)side->device : side->host;
    char *start = base + side->y * side->pitch + side->x;
    if (side->memory_type == 2)
        driver_need_memory(start, side->pitch, width, rows, "cuMemcpy2D");
    return start;
}

CUresult cuMemcpy2D_v2(const struct copy *copy)
{
    char *from = start_of(&copy->from, copy->width, copy->rows);
    char *to = start_of(&copy->to, copy->width, copy->rows);
    for (size_t row = 0; row < copy->rows; row++)
        memcpy(to + row * copy->to.pitch, from + row * copy->from.pitch, copy->width);
    return CUDA_SUCCESS;
}

CUresult cuMemcpy2DAsync_v2(const struct copy *copy, CUstream stream)
{
    (void)stream;
    return cuMemcpy2D_v2(copy);
}

CUresult cuStreamSynchronize(CUstream stream)
{
    (void)stream;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **name)
{
    *name = error == CUDA_ERROR_OUT_OF_MEMORY    ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == CUDA_ERROR_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
                                                  : "CUDA_ERROR";
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    return cuGetErrorName(error, text);
}

/* What FFmpeg's loader looks for and these tests must not reach. */
#define UNUSED(name)                                       \
    CUresult name(void)                                    \
    {                                                      \
        driver_complain("the stand-in driver has no " #name); \
        return CUDA_ERROR_NOT_SUPPORTED;                   \
    }

UNUSED(cuCtxSetLimit)
UNUSED(cuDevicePrimaryCtxRelease)
UNUSED(cuDevicePrimaryCtxSetFlags)
UNUSED(cuDevicePrimaryCtxReset)
UNUSED(cuDeviceGetByPCIBusId)
UNUSED(cuDeviceGetPCIBusId)
UNUSED(cuMemAllocPitch_v2)
UNUSED(cuMemAllocManaged)
UNUSED(cuMemcpy)
UNUSED(cuMemcpyAsync)
UNUSED(cuMemcpyHtoD_v2)
UNUSED(cuMemcpyHtoDAsync_v2)
UNUSED(cuMemcpyDtoH_v2)
UNUSED(cuMemcpyDtoHAsync_v2)
UNUSED(cuMemcpyDtoD_v2)
UNUSED(cuMemcpyDtoDAsync_v2)
UNUSED(cuStreamCreate)
UNUSED(cuStreamQuery)
UNUSED(cuStreamDestroy_v2)
UNUSED(cuStreamAddCallback)
UNUSED(cuStreamWaitEvent)
UNUSED(cuEventCreate)
UNUSED(cuEventDestroy_v2)
UNUSED(cuEventSynchronize)
UNUSED(cuEventQuery)
UNUSED(cuEventRecord)
UNUSED(cuLaunchKernel)
UNUSED(cuLinkCreate)
UNUSED(cuLinkAddData)
UNUSED(cuLinkComplete)
UNUSED(cuLinkDestroy)
UNUSED(cuModuleLoadData)
UNUSED(cuModuleUnload)
UNUSED(cuModuleGetFunction)
UNUSED(cuModuleGetGlobal)
UNUSED(cuTexObjectCreate)
UNUSED(cuTexObjectDestroy)
UNUSED(cuGLGetDevices_v2)
UNUSED(cuGraphicsGLRegisterImage)
UNUSED(cuGraphicsUnregisterResource)
UNUSED(cuGraphicsMapResources)
UNUSED(cuGraphicsUnmapResources)
UNUSED(cuGraphicsSubResourceGetMappedArray)
UNUSED(cuGraphicsResourceGetMappedPointer_v2)
UNUSED(cuArrayCreate_v2)
UNUSED(cuArray3DCreate_v2)
UNUSED(cuArrayDestroy)
