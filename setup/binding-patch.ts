import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../shared/version.js';
import { fail, LIBRARIES } from './addon.js';

/** Text that goes before the first occurrence of `anchor` in a source file of tfjs-node's addon. */
interface Insertion {
  readonly file: string;
  readonly anchor: string;
  readonly text: string;
}

/*
 * `readTensor(id, target)` copies a tensor's data into memory of ours. The addon's own `tensorDataSync` makes a new, zeroed
 * ArrayBuffer for every tensor: for the gradients of `dense`, 3.6 MB a micro-batch, the page faults took 2.0 of 9.5 ms. Where the
 * addon comes from npm's download it lacks it, and the worker does without.
 *
 * An addon of our own, which needs nothing of TensorFlow, is compiled beside it (memory-addon.cc) and put beside the libraries.
 */
const INSERTIONS: readonly Insertion[] = [
  {
    file: 'binding.gyp',
    anchor: "{\n    'target_name' : 'tfjs_binding'",
    text: `{
    'target_name' : 'atelier_memory',
    'sources' : ['binding/memory-addon.cc'],
  }, {
    'target_name' : 'atelier_memory_in_place',
    'type' : 'none',
    'dependencies' : ['atelier_memory'],
    'copies' : [{
      'files' : ['<(PRODUCT_DIR)/atelier_memory.node'],
      'destination' : '${LIBRARIES}',
    }],
  }, `,
  },
  {
    file: 'binding/tfjs_backend.h',
    anchor: '  // Executes a TFE Op and returns an array',
    text: `  // Copies a tensor's data into a float32, int32 or uint8 array of as many bytes.
  void ReadTensor(napi_env env, napi_value tensor_id_value, napi_value target);

`,
  },
  {
    file: 'binding/tfjs_backend.cc',
    anchor: 'napi_value TFJSBackend::ExecuteOp(',
    text: `void TFJSBackend::ReadTensor(napi_env env, napi_value tensor_id_value,
                             napi_value target) {
  int32_t tensor_id;
  ENSURE_NAPI_OK(env,
                 napi_get_value_int32(env, tensor_id_value, &tensor_id));
  auto tensor_entry = tfe_handle_map_.find(tensor_id);
  if (tensor_entry == tfe_handle_map_.end()) {
    NAPI_THROW_ERROR(env, "readTensor: no tensor %d", tensor_id);
    return;
  }
  napi_typedarray_type type;
  size_t length;
  void *data;
  ENSURE_NAPI_OK(env, napi_get_typedarray_info(env, target, &type, &length,
                                               &data, nullptr, nullptr));
  if (type != napi_float32_array && type != napi_int32_array &&
      type != napi_uint8_array) {
    NAPI_THROW_ERROR(env, "readTensor: the target is of another type");
    return;
  }
  TF_AutoStatus tf_status;
  TF_AutoTensor tensor(
      TFE_TensorHandleResolve(tensor_entry->second, tf_status.status));
  ENSURE_TF_OK(env, tf_status);
  const size_t bytes = length * (type == napi_uint8_array ? 1 : 4);
  if (TF_TensorByteSize(tensor.tensor) != bytes) {
    NAPI_THROW_ERROR(env, "readTensor: the target has another length");
    return;
  }
  if (bytes > 0) memcpy(data, TF_TensorData(tensor.tensor), bytes);
}

`,
  },
  {
    file: 'binding/tfjs_binding.cc',
    anchor: 'static napi_value ExecuteOp(',
    text: `static napi_value ReadTensor(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value args[2];
  napi_value js_this;
  ENSURE_NAPI_OK_RETVAL(
      env, napi_get_cb_info(env, info, &argc, args, &js_this, nullptr),
      nullptr);
  if (argc < 2) {
    NAPI_THROW_ERROR(env, "readTensor takes a tensor and a typed array");
    return nullptr;
  }
  TFJSBackend *const backend = GetTFJSBackend(env);
  if (!backend) return nullptr;
  backend->ReadTensor(env, args[0], args[1]);
  return js_this;
}

`,
  },
  {
    file: 'binding/tfjs_binding.cc',
    anchor: '      {"executeOp", nullptr, ExecuteOp',
    text: `      {"readTensor", nullptr, ReadTensor, nullptr, nullptr, nullptr,
       napi_default, nullptr},
`,
  },
];

/** Names what the patch and memory-addon.cc add, for the cache: change it with either of them. */
export const PATCH = 'memory1';

/**
 * Adds our function to the addon's sources, and our addon to what is compiled.
 * @param build a folder with a copy of the package's sources
 * @throws AtelierError `usage` when the sources are not those that the patch is for
 */
export function patchBinding(build: string): void {
  for (const { file, anchor, text } of INSERTIONS) {
    const path = join(build, file);
    const source = readFileSync(path, 'utf8');
    const at = source.indexOf(anchor);
    if (at === -1)
      fail(`${file} of tfjs-node is not the one this version of Atelier patches: no "${anchor}"`);
    writeFileSync(path, source.slice(0, at) + text + source.slice(at));
  }
  copyFileSync(join(PROJECT_ROOT, 'setup', 'memory-addon.cc'), join(build, 'binding', 'memory-addon.cc'));
}
