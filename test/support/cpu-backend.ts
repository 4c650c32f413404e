/** tfjs's own backend, without its advice to install another: enough to build models. */
import '@tensorflow/tfjs-backend-cpu';
import { backend } from '@tensorflow/tfjs-core';

(backend() as { firstUse?: boolean }).firstUse = false;
