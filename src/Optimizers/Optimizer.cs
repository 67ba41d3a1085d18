// What all optimizers share: their tensors, their step counter and their state. Deliberately not: schedules (the rate comes with each step)
// and clipping. One instance is one run: many runs side by side, each on its rows of a prompt table, are many instances.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;

namespace IptNative.Optimizers;

/// <summary>Updates a run's parameters from their gradients.</summary>
public abstract class Optimizer : IDisposable
{
    private readonly Parameter[] _parameters;
    private readonly List<StateTensor> _state = [];
    private readonly List<DeviceBuffer> _buffers = [];

    private protected Optimizer(ComputeDevice device, ReadOnlySpan<Parameter> parameters)
    {
        ArgumentNullException.ThrowIfNull(device);
        Device = device;
        _parameters = parameters.ToArray();
        if (_parameters.Length == 0)
            throw new ArgumentException($"{GetType().Name}: found no parameter, expected at least one.", nameof(parameters));
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (Parameter parameter in _parameters)
        {
            if (!names.Add(parameter.Name))
                throw new ArgumentException($"{GetType().Name}: found two parameters named '{parameter.Name}', expected unique names.", nameof(parameters));
            if (parameter.Shape.Rank is not (1 or 2) || parameter.Shape.Elements < 1)
                throw new ArgumentException($"{GetType().Name}: parameter '{parameter.Name}' has shape {parameter.Shape}, expected a vector or matrix with at least one element.", nameof(parameters));
            Check(parameter, parameter.Value, "value");
            Check(parameter, parameter.Gradient, "gradient");
        }
    }

    /// <summary>The trained tensors.</summary>
    public ReadOnlySpan<Parameter> Parameters => _parameters;

    /// <summary>Steps done.</summary>
    public long Steps { get; private set; }

    /// <summary>Bytes of state and scratch, for the memory plan.</summary>
    public long Bytes { get; private set; }

    /// <summary>What a checkpoint keeps beside <see cref="Steps"/>.</summary>
    public IReadOnlyList<StateTensor> State => _state;

    private protected ComputeDevice Device { get; }

    /// <summary>One update of every parameter; allocates nothing.</summary>
    /// <param name="learningRate">This step's rate, finite, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">The rate is negative or not finite.</exception>
    public void Step(double learningRate)
    {
        if (!(learningRate >= 0 && double.IsFinite(learningRate)))
            throw new ArgumentOutOfRangeException(nameof(learningRate), $"{GetType().Name}.Step: found a learning rate of {learningRate} at step {Steps}, expected a finite number, 0 or more.");
        Steps++;
        Update(learningRate);
    }

    /// <summary>Goes on after <paramref name="steps"/> steps; the caller has written the tensors of <see cref="State"/>.</summary>
    /// <param name="steps">Steps done, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">A negative number.</exception>
    public void Restore(long steps)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(steps);
        Steps = steps;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DeviceBuffer buffer in _buffers)
            buffer.Dispose();
        GC.SuppressFinalize(this);
    }

    private protected abstract void Update(double learningRate);

    private protected Tensor AddState(in Parameter parameter, string moment, TensorShape shape)
    {
        Tensor tensor = Allocate(DType.F32, shape.Elements, $"{GetType().Name} state {parameter.Name}.{moment}");
        Elementwise.Fill(Device, tensor, tensor.Elements, 0);
        _state.Add(new StateTensor($"{parameter.Name}.{moment}", shape, tensor));
        return tensor;
    }

    private protected Tensor Allocate(DType type, long elements, string purpose)
    {
        DeviceBuffer buffer = Device.Allocate(type, elements, purpose);
        _buffers.Add(buffer);
        Bytes += type.ByteLength(elements);
        return buffer.Tensor;
    }

    private void Check(in Parameter parameter, Tensor tensor, string what)
    {
        if (!ReferenceEquals(tensor.Device, Device) || tensor.DType != DType.F32 || tensor.Elements != parameter.Shape.Elements)
        {
            throw new ArgumentException(
                $"{GetType().Name}: the {what} of '{parameter.Name}' holds {tensor.Elements} {tensor.DType.Name()} on {tensor.Device?.Name ?? "no device"}, expected {parameter.Shape} = {parameter.Shape.Elements} f32 on {Device.Name}.");
        }
    }
}
