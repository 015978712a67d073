/* libnvcuvid.so.1 of the stand-in driver: NVDEC, as FFmpeg's nvdec.c uses it.
 *
 * FFmpeg reads the stream, orders the pictures and says into which of the decoder's surfaces each
 * one goes. The decoder fills surfaces, and maps them one after the other for FFmpeg to copy. It
 * decodes what the stand-in's own encoder writes. Any other picture comes out grey, and is told of.
 */
#include "bookkeeping.h"
#include "h264.h"

#include <stdlib.h>
#include <string.h>

enum {
    CODEC_H264 = 4, /* cudaVideoCodec_H264 */
    CHROMA_420 = 1,
    MOST_SURFACES = 32, /* the real one refuses more */
    PITCH_ALIGNMENT = 512,
    GREY = 128,
};

/* The beginnings of NVIDIA's public structures: as far as they are used here. */
struct capabilities {
    int codec, chroma_format;
    unsigned bit_depth_minus_8, reserved[3];
    unsigned char is_supported, decoders;
    unsigned short output_formats;
    unsigned max_width, max_height, max_macroblocks;
    unsigned short min_width, min_height;
};

struct create_info {
    unsigned long width, height, decode_surfaces;
    int codec, chroma_format;
    unsigned long flags, bit_depth_minus_8, intra_only, max_width, max_height, reserved;
    short display_area[4];
    int output_format, deinterlace_mode;
    unsigned long target_width, target_height, output_surfaces;
};

struct picture_parameters {
    int width_in_macroblocks, height_in_macroblocks, surface;
    int field_pic, bottom_field, second_field;
    unsigned size;
    const unsigned char *bitstream;
    unsigned slices;
    const unsigned *slice_offsets;
};

struct decoder {
    struct create_info info;
    CUcontext owner;
    uint8_t *surfaces[MOST_SURFACES]; /* NV12 of whole macroblocks, without padding */
    unsigned long mapped;
};

CUresult cuvidGetDecoderCaps(struct capabilities *caps)
{
    caps->is_supported = caps->codec == CODEC_H264 && caps->chroma_format == CHROMA_420
                         && caps->bit_depth_minus_8 == 0;
    caps->decoders = 1;
    caps->output_formats = 1;
    caps->max_width = caps->max_height = 4096;
    caps->max_macroblocks = 65536;
    caps->min_width = caps->min_height = 48;
    return CUDA_SUCCESS;
}

CUresult cuvidCreateDecoder(struct decoder **made, const struct create_info *info)
{
    CUresult result = CUDA_SUCCESS;
    if (!driver_current_context())
        driver_complain("cuvidCreateDecoder: no context is current");
    if (info->codec != CODEC_H264 || info->chroma_format != CHROMA_420)
        result = CUDA_ERROR_NOT_SUPPORTED;
    else if (info->decode_surfaces > MOST_SURFACES)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (driver_allocation_fails())
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS) {
        struct decoder *decoder = calloc(1, sizeof *decoder);
        decoder->info = *info;
        decoder->owner = driver_current_context();
        for (unsigned long at = 0; at < info->decode_surfaces; at++)
            decoder->surfaces[at] = calloc(1, info->width * info->height * 3 / 2);
        driver_opened("decoder", decoder, 0);
        driver_record("decoder width=%lu height=%lu decode_surfaces=%lu output_surfaces=%lu",
                      info->width, info->height, info->decode_surfaces, info->output_surfaces);
        *made = decoder;
    }
    return result;
}

CUresult cuvidDestroyDecoder(struct decoder *decoder)
{
    driver_need_context(decoder->owner, "cuvidDestroyDecoder");
    driver_closed("decoder", decoder);
    for (unsigned at = 0; at < MOST_SURFACES; at++)
        free(decoder->surfaces[at]);
    free(decoder);
    return CUDA_SUCCESS;
}

static void decode_into(uint8_t *surface, const struct create_info *info,
                        const struct picture_parameters *picture)
{
    uint8_t *chroma = surface + info->width * info->height;
    if (picture->slices == 1
        && h264_decode(picture->bitstream, picture->size, (unsigned)info->width / 16,
                       (unsigned)info->height / 16, surface, chroma, info->width))
        return;
    driver_record("grey");
    memset(surface, GREY, info->width * info->height * 3 / 2);
}

CUresult cuvidDecodePicture(struct decoder *decoder, const struct picture_parameters *picture)
{
    CUresult result = CUDA_SUCCESS;
    driver_need_context(decoder->owner, "cuvidDecodePicture");
    if (driver_decoding_fails()) {
        result = CUDA_ERROR_ILLEGAL_ADDRESS;
    } else if ((unsigned)picture->surface >= decoder->info.decode_surfaces) {
        driver_complain("cuvidDecodePicture: there is no surface %d", picture->surface);
        result = CUDA_ERROR_INVALID_VALUE;
    } else {
        decode_into(decoder->surfaces[picture->surface], &decoder->info, picture);
    }
    return result;
}

CUresult cuvidMapVideoFrame64(struct decoder *decoder, int surface, CUdeviceptr *pointer,
                              unsigned *pitch, void *processing)
{
    const struct create_info *info = &decoder->info;
    CUresult result = CUDA_SUCCESS;
    (void)processing;
    driver_need_context(decoder->owner, "cuvidMapVideoFrame");
    if ((unsigned)surface >= info->decode_surfaces || decoder->mapped == info->output_surfaces) {
        driver_complain("cuvidMapVideoFrame: no such surface, or too many are mapped");
        result = CUDA_ERROR_INVALID_VALUE;
    } else {
        size_t bytes = (info->target_width + PITCH_ALIGNMENT - 1) / PITCH_ALIGNMENT
                       * PITCH_ALIGNMENT;
        size_t rows = info->target_height * 3 / 2;
        uint8_t *frame = calloc(rows, bytes);
        for (size_t row = 0; row < rows; row++)
            memcpy(frame + row * bytes, decoder->surfaces[surface] + row * info->width,
                   info->target_width);
        driver_opened("mapped frame", frame, rows * bytes);
        decoder->mapped++;
        *pointer = (CUdeviceptr)(uintptr_t)frame;
        *pitch = (unsigned)bytes;
    }
    return result;
}

CUresult cuvidUnmapVideoFrame64(struct decoder *decoder, CUdeviceptr pointer)
{
    void *frame = (void *)(uintptr_t)pointer;
    driver_need_context(decoder->owner, "cuvidUnmapVideoFrame");
    if (!driver_is_open("mapped frame", frame, NULL)) {
        driver_complain("cuvidUnmapVideoFrame: it is not mapped");
        return CUDA_ERROR_INVALID_VALUE;
    }
    driver_closed("mapped frame", frame);
    decoder->mapped--;
    free(frame);
    return CUDA_SUCCESS;
}

/* What FFmpeg's loader looks for and nvdec.c does not use. */
#define UNUSED(name)                                       \
    CUresult name(void)                                    \
    {                                                      \
        driver_complain("the stand-in driver has no " #name); \
        return CUDA_ERROR_NOT_SUPPORTED;                   \
    }

UNUSED(cuvidGetDecodeStatus)
UNUSED(cuvidReconfigureDecoder)
UNUSED(cuvidCtxLockCreate)
UNUSED(cuvidCtxLockDestroy)
UNUSED(cuvidCtxLock)
UNUSED(cuvidCtxUnlock)
UNUSED(cuvidCreateVideoSource)
UNUSED(cuvidCreateVideoSourceW)
UNUSED(cuvidDestroyVideoSource)
UNUSED(cuvidSetVideoSourceState)
UNUSED(cuvidGetVideoSourceState)
UNUSED(cuvidGetSourceVideoFormat)
UNUSED(cuvidGetSourceAudioFormat)
UNUSED(cuvidCreateVideoParser)
UNUSED(cuvidParseVideoData)
UNUSED(cuvidDestroyVideoParser)
