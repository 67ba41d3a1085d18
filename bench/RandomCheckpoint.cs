// A checkpoint of any shape with random weights in native memory: speed does not depend on what a model has learnt.
using System.Runtime.InteropServices;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;

namespace IptNative.Bench;

internal sealed unsafe class RandomCheckpoint : Checkpoint
{
    private readonly Dictionary<string, Weight> _weights = [];

    public RandomCheckpoint(T5Config config)
    {
        Config = config;
        uint state = 1;
        foreach (T5Parameter parameter in T5Parameters.Of(config))
        {
            long n = parameter.Shape.Elements;
            float* values = (float*)NativeMemory.AlignedAlloc((nuint)(n * sizeof(float)), 64);
            float scale = parameter.Shape.Rank == 1 ? 1 : 2f / MathF.Sqrt(parameter.Shape[1]);
            for (long i = 0; i < n; i++)
            {
                state = state * 1664525 + 1013904223;
                values[i] = ((state >> 8) / (float)(1 << 24) - 0.5f) * scale;
            }
            _weights.Add(parameter.Name, new Weight(parameter.Name, DType.F32, parameter.Shape, (nint)values, n * sizeof(float)));
        }
    }

    public override string Location => "random weights";

    public override IReadOnlyList<string> Files => [];

    public override T5Config Config { get; }

    public override Weight this[string name] => _weights[name];

    protected override void Dispose(bool disposing)
    {
        foreach (Weight weight in _weights.Values)
            NativeMemory.AlignedFree((void*)weight.Address);
        _weights.Clear();
    }
}
