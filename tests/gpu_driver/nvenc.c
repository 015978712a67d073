/* libnvidia-encode.so.1 of the stand-in driver: NVENC, as FFmpeg's nvenc.c uses it.
 *
 * Here are the sessions, their settings and buffers. What happens to pictures is in
 * nvenc_pictures.c.
 */
#include "nvenc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PITCH_ALIGNMENT = 64, MIN_WIDTH = 145, MIN_HEIGHT = 49 }; /* the real one's least size */

static int same(const GUID *one, const GUID *other)
{
    return memcmp(one, other, sizeof *one) == 0;
}

/* Opening */

static NVENCSTATUS open_session(OPEN_SESSION *parameters, struct session **made)
{
    const char *wanted = getenv("GPU_DRIVER_NVENC");
    CUcontext context = parameters->device;
    if (!context) {
        driver_complain("nvEncOpenEncodeSessionEx: there is no context");
        return NV_ENC_ERR_INVALID_PARAM;
    }
    if (parameters->api_version != (API_MAJOR | API_MINOR << 24))
        return NV_ENC_ERR_INVALID_VERSION;
    if (wanted && strcmp(wanted, "none") == 0)
        return NV_ENC_ERR_NO_ENCODE_DEVICE;
    if (wanted && strcmp(wanted, "last") == 0
        && driver_device_of(context) != driver_host_devices() - 1)
        return NV_ENC_ERR_UNSUPPORTED_DEVICE;
    struct session *session = calloc(1, sizeof *session);
    session->context = context;
    driver_opened("encoder", session, 0);
    *made = session;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS get_codec_count(struct session *session, uint32_t *count)
{
    (void)session;
    *count = 2;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS get_codecs(struct session *session, GUID *codecs, uint32_t room, uint32_t *count)
{
    (void)session;
    const GUID all[] = {CODEC_H264, CODEC_HEVC};
    *count = room < 2 ? room : 2;
    memcpy(codecs, all, *count * sizeof *all);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS get_caps(struct session *session, GUID codec, CAPS_PARAM *caps, int *value)
{
    (void)session, (void)codec;
    switch (caps->wanted) {
    case 0: /* B-frames */
        *value = 4;
        break;
    case 16: case 17: /* the largest width and height */
        *value = 4096;
        break;
    case 7: case 20: case 37: case 38: case 47: case 49: /* CABAC, bit rate, look-ahead, temporal
                                           AQ, several references; engines */
        *value = 1;
        break;
    case 43: /* B-frames as references */
        *value = 3;
        break;
    default:
        *value = 0;
    }
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS get_preset_config(struct session *session, GUID codec, GUID preset,
                                     uint32_t tuning, PRESET_CONFIG *made)
{
    (void)session, (void)codec, (void)preset, (void)tuning;
    made->config.gop_length = 250;
    made->config.frame_interval_p = 3;
    made->config.rc.mode = 1; /* VBR */
    made->config.rc.average_bitrate = 2000000;
    return NV_ENC_SUCCESS;
}

/* Tells the log what the encoder was opened with, in words that a test can split. */
static void record_settings(const INITIALIZE *wanted, const struct profile *profile)
{
    const CONFIG *config = wanted->config;
    const RC_PARAMS *rc = &config->rc;
    const VUI *vui = &config->h264.vui;
    int preset = 0, is_hevc = same(&wanted->codec, &CODEC_HEVC);
    char h264[128] = ""; /* the settings of HEVC lie otherwise */
    while (preset < 7 && !same(&PRESETS[preset], &wanted->preset))
        preset++;
    if (!is_hevc)
        snprintf(h264, sizeof h264, " idr_period=%u sets_in_stream=%u colour=%u/%u/%u full_range=%u",
                 config->h264.idr_period, config->h264.repeat_parameter_sets, vui->primaries,
                 vui->transfer, vui->matrix, vui->full_range);
    driver_record(
        "encoder codec=%s size=%ux%u aspect=%u:%u fps=%u/%u preset=p%d tuning=%u profile=%s gop=%u "
        "interval=%d rc=%u cq=%g average=%u max=%u aq=%d temporal_aq=%d lookahead=%u "
        "no_scenecut=%d strict_gop=%d%s",
        is_hevc ? "hevc" : "h264", wanted->width, wanted->height, wanted->dar_width,
        wanted->dar_height, wanted->fps_numerator, wanted->fps_denominator, preset + 1,
        wanted->tuning, profile->name, config->gop_length, config->frame_interval_p, rc->mode,
        rc->target_quality + rc->target_quality_256ths / 256.0, rc->average_bitrate,
        rc->max_bitrate, rc->enable_aq, rc->enable_temporal_aq,
        rc->enable_lookahead ? rc->lookahead_depth : 0, rc->disable_i_adapt,
        rc->strict_gop_target, h264);
}

static NVENCSTATUS initialize(struct session *session, INITIALIZE *wanted)
{
    const CONFIG *config = wanted->config;
    const VUI *vui = &config->h264.vui;
    driver_need_context(session->context, "nvEncInitializeEncoder");
    session->is_hevc = same(&wanted->codec, &CODEC_HEVC);
    const struct profile *profile = PROFILES;
    while (!same(&profile->guid, &config->profile))
        if (++profile == PROFILES + sizeof PROFILES / sizeof *PROFILES)
            return NV_ENC_ERR_INVALID_PARAM;
    if (wanted->width < MIN_WIDTH || wanted->height < MIN_HEIGHT)
        return NV_ENC_ERR_INVALID_PARAM;
    session->interval = config->frame_interval_p > 1 ? (unsigned)config->frame_interval_p : 1;
    session->lookahead = config->rc.enable_lookahead ? config->rc.lookahead_depth : 0;
    session->gop_length = config->gop_length;
    session->format = (struct h264_format){
        .width = wanted->width, .height = wanted->height, .profile_idc = profile->idc,
        .fps_numerator = wanted->fps_numerator, .fps_denominator = wanted->fps_denominator,
        .reorder_frames = session->interval > 1,
        .has_colour = vui->colour_present, .colour_primaries = vui->primaries,
        .transfer_characteristics = vui->transfer, .matrix_coefficients = vui->matrix,
        .full_range = vui->full_range,
        .variant = (unsigned)driver_number("GPU_DRIVER_PARAMETER_SETS", 0),
    };
    session->sets_in_stream = config->h264.repeat_parameter_sets;
    record_settings(wanted, profile);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS set_streams(struct session *session, CUstream *in, CUstream *out)
{
    (void)in, (void)out;
    driver_need_context(session->context, "nvEncSetIOCudaStreams");
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS get_sequence_params(struct session *session, SEQUENCE_PARAMS *wanted)
{
    uint8_t sets[512];
    size_t size = h264_parameter_sets(&session->format, sets);
    if (size > wanted->room)
        return NV_ENC_ERR_INVALID_PARAM;
    memcpy(wanted->bytes, sets, size);
    *wanted->size = (uint32_t)size;
    return NV_ENC_SUCCESS;
}

/* Inputs and outputs */

static NVENCSTATUS create_input(struct session *session, CREATE_INPUT *wanted)
{
    driver_need_context(session->context, "nvEncCreateInputBuffer");
    if (wanted->format != NV_ENC_BUFFER_FORMAT_YV12 && wanted->format != NV_ENC_BUFFER_FORMAT_NV12)
        return NV_ENC_ERR_UNIMPLEMENTED;
    if (driver_allocation_fails())
        return NV_ENC_ERR_OUT_OF_MEMORY;
    struct input *input = calloc(1, sizeof *input);
    input->width = wanted->width, input->height = wanted->height, input->format = wanted->format;
    input->pitch = (wanted->width + PITCH_ALIGNMENT - 1) / PITCH_ALIGNMENT * PITCH_ALIGNMENT;
    input->bytes = malloc((size_t)input->pitch * input->height * 3 / 2);
    memset(input->bytes, 0xAA, (size_t)input->pitch * input->height * 3 / 2);
    driver_opened("input buffer", input, 0);
    wanted->buffer = input;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS destroy_input(struct session *session, struct input *input)
{
    driver_need_context(session->context, "nvEncDestroyInputBuffer");
    if (!driver_is_open("input buffer", input, NULL))
        return NV_ENC_ERR_INVALID_PTR; /* FFmpeg tries, after it got no memory for another */
    driver_closed("input buffer", input);
    free(input->bytes);
    free(input);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS create_bitstream(struct session *session, CREATE_BITSTREAM *wanted)
{
    driver_need_context(session->context, "nvEncCreateBitstreamBuffer");
    if (driver_allocation_fails())
        return NV_ENC_ERR_OUT_OF_MEMORY;
    struct bitstream *made = calloc(1, sizeof *made);
    made->bytes = malloc(h264_picture_limit(&session->format));
    driver_opened("bitstream buffer", made, 0);
    wanted->buffer = made;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS destroy_bitstream(struct session *session, struct bitstream *bitstream)
{
    driver_need_context(session->context, "nvEncDestroyBitstreamBuffer");
    if (!driver_is_open("bitstream buffer", bitstream, NULL))
        return NV_ENC_ERR_INVALID_PTR; /* FFmpeg tries, after it got no memory for another */
    driver_closed("bitstream buffer", bitstream);
    free(bitstream->bytes);
    free(bitstream);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS register_resource(struct session *session, REGISTER *wanted)
{
    const char *call = "nvEncRegisterResource";
    driver_need_context(session->context, call);
    if (wanted->type != NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR
        || wanted->format != NV_ENC_BUFFER_FORMAT_NV12)
        return NV_ENC_ERR_UNIMPLEMENTED;
    if (driver_allocation_fails())
        return NV_ENC_ERR_OUT_OF_MEMORY;
    if (wanted->width != session->format.width || wanted->height != session->format.height
        || wanted->pitch < wanted->width)
        driver_complain("%s: %ux%u with a pitch of %u bytes, but the encoder is %ux%u", call,
                        wanted->width, wanted->height, wanted->pitch, session->format.width,
                        session->format.height);
    size_t rows = wanted->height * 3 / 2; /* chroma lies right behind luma */
    struct thing memory;
    driver_need_memory(wanted->pointer, wanted->pitch, wanted->width, rows, call);
    if (driver_is_open("memory", wanted->pointer, &memory) && memory.size != rows * wanted->pitch)
        driver_complain("%s: %zu rows with a pitch of %u bytes are not the %zu bytes of the memory",
                        call, rows, wanted->pitch, memory.size);
    struct input *input = calloc(1, sizeof *input);
    input->width = wanted->width, input->height = wanted->height, input->pitch = wanted->pitch;
    input->format = wanted->format;
    input->bytes = wanted->pointer;
    driver_opened("registered resource", input->bytes, 0);
    wanted->registered = input;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS unregister_resource(struct session *session, struct input *input)
{
    driver_need_context(session->context, "nvEncUnregisterResource");
    if (input->is_mapped)
        driver_complain("nvEncUnregisterResource: it is still mapped");
    driver_closed("registered resource", input->bytes);
    free(input);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS map_resource(struct session *session, MAP_INPUT *wanted)
{
    struct input *input = wanted->registered;
    driver_need_context(session->context, "nvEncMapInputResource");
    if (input->is_mapped)
        driver_complain("nvEncMapInputResource: it is mapped already");
    input->is_mapped = 1;
    driver_opened("mapped resource", input, 0);
    wanted->mapped = input;
    wanted->format = input->format;
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS unmap_resource(struct session *session, struct input *input)
{
    driver_need_context(session->context, "nvEncUnmapInputResource");
    if (is_held(session, input))
        driver_complain("nvEncUnmapInputResource: the encoder still holds the picture");
    input->is_mapped = 0;
    driver_closed("mapped resource", input);
    return NV_ENC_SUCCESS;
}

static NVENCSTATUS destroy_encoder(struct session *session)
{
    driver_need_context(session->context, "nvEncDestroyEncoder");
    driver_closed("encoder", session);
    free(session);
    return NV_ENC_SUCCESS;
}

static const char *get_last_error(struct session *session)
{
    (void)session;
    return "the stand-in driver has no details";
}

/* The two names that the library exports */

NVENCSTATUS NvEncodeAPIGetMaxSupportedVersion(uint32_t *version)
{
    *version = API_MAJOR << 4 | API_MINOR;
    return NV_ENC_SUCCESS;
}

NVENCSTATUS NvEncodeAPICreateInstance(FUNCTION_LIST *list)
{
    void **functions = list->functions;
    functions[GET_CODEC_COUNT] = get_codec_count;
    functions[GET_CODECS] = get_codecs;
    functions[GET_CAPS] = get_caps;
    functions[INITIALIZE_ENCODER] = initialize;
    functions[CREATE_INPUT_BUFFER] = create_input;
    functions[DESTROY_INPUT_BUFFER] = destroy_input;
    functions[CREATE_BITSTREAM_BUFFER] = create_bitstream;
    functions[DESTROY_BITSTREAM_BUFFER] = destroy_bitstream;
    functions[ENCODE_PICTURE] = encode_picture;
    functions[LOCK_BITSTREAM_BUFFER] = lock_bitstream;
    functions[UNLOCK_BITSTREAM_BUFFER] = unlock_bitstream;
    functions[LOCK_INPUT_BUFFER] = lock_input;
    functions[UNLOCK_INPUT_BUFFER] = unlock_input;
    functions[GET_SEQUENCE_PARAMS] = get_sequence_params;
    functions[MAP_RESOURCE] = map_resource;
    functions[UNMAP_RESOURCE] = unmap_resource;
    functions[DESTROY_ENCODER] = destroy_encoder;
    functions[OPEN_SESSION_EX] = open_session;
    functions[REGISTER_RESOURCE] = register_resource;
    functions[UNREGISTER_RESOURCE] = unregister_resource;
    functions[GET_LAST_ERROR] = get_last_error;
    functions[SET_STREAMS] = set_streams;
    functions[GET_PRESET_CONFIG_EX] = get_preset_config;
    return NV_ENC_SUCCESS;
}
