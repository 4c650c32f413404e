import { describe, expect, test } from 'vitest';
import { makeSchedule, type ScheduleOptions } from '../../coordinator/optimizer/schedule.js';

const OPTIONS: ScheduleOptions = { schedule: 'constant', learningRate: 0.01, warmupSteps: 0, totalSteps: 20 };
const rates = (options: Partial<ScheduleOptions>): number[] => {
  const schedule = makeSchedule({ ...OPTIONS, ...options });
  return Array.from({ length: options.totalSteps ?? OPTIONS.totalSteps }, (_, step) => schedule(step));
};

describe('a schedule', () => {
  test('that is constant stays', () => {
    expect(new Set(rates({}))).toEqual(new Set([0.01]));
  });

  test('rises in equal steps to the learning rate while it warms up', () => {
    const warm = [0.0025, 0.005, 0.0075, 0.01, 0.01];
    expect(rates({ warmupSteps: 4 }).slice(0, 5)).toEqual(warm);
    expect(rates({ schedule: 'cosine', warmupSteps: 4 }).slice(0, 5)).toEqual(warm);
  });

  test('cosine follows half a cosine from the end of the warm-up to zero', () => {
    rates({ schedule: 'cosine', warmupSteps: 4 }).forEach((rate, step) => {
      if (step < 4) return;
      expect(rate).toBeCloseTo(0.005 * (1 + Math.cos((Math.PI * (step - 4)) / 16)), 14);
    });
    expect(makeSchedule({ ...OPTIONS, schedule: 'cosine' })(20)).toBeCloseTo(0, 14);
  });

  test("one-cycle is PyTorch's OneCycleLR", () => {
    // torch 2.13: OneCycleLR(optimizer, max_lr=0.01, total_steps=20, cycle_momentum=False)
    const expected = [
      0.0003999999999999993, 0.0013167184270002508, 0.003716718427000252, 0.006683281572999748,
      0.009083281572999747, 0.01, 0.009874640062350875, 0.009504846320134737, 0.0089091617757105,
      0.008117456539497631, 0.007169430017913008, 0.0061126202193628925, 0.00500002, 0.003887419780637108,
      0.0028306099820869924, 0.00188258346050237, 0.0010908782242895004, 0.0004951936798652628,
      0.00012539993764912555, 4e-8,
    ];
    rates({ schedule: 'one-cycle' }).forEach((rate, step) =>
      expect(rate).toBeCloseTo(expected[step] ?? NaN, 14),
    );
  });

  test.each(['constant', 'cosine', 'one-cycle'] as const)(
    '%s is a positive number in trainings of any length',
    (schedule) => {
      for (const totalSteps of [1, 2, 3, 4, 5, 10, 1_000]) {
        for (const rate of rates({ schedule, totalSteps })) {
          expect(rate).toBeGreaterThan(0);
          expect(rate).toBeLessThanOrEqual(0.01);
        }
      }
    },
  );

  test('may consist of its warm-up alone', () => {
    expect(rates({ schedule: 'cosine', warmupSteps: 20 }).at(-1)).toBe(0.01);
  });
});
