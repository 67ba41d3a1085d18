// Every kernel there is, generic ones closed with every formula that fits: a new kernel is found without being listed.
using System.Reflection;
using IptNative.Kernels.Gpu;

namespace IptNative.Kernels.Tests.Gpu;

public static class KernelTypes
{
    private static readonly Type[] All = typeof(IGpuKernel<>).Assembly.GetTypes();

    /// <summary>The closed kernel structs by a name that says where they stand.</summary>
    internal static IReadOnlyDictionary<string, Type> ByName { get; } = All
        .Where(type => type.IsValueType && type.GetInterfaces().Any(i => i.IsGenericType && i.GetGenericTypeDefinition() == typeof(IGpuKernel<>)))
        .SelectMany(Close)
        .ToDictionary(Name);

    public static Xunit.TheoryData<string> Names => [.. ByName.Keys.Order(StringComparer.Ordinal)];

    internal static MethodInfo Run(Type kernel) => kernel.GetMethod("Run", BindingFlags.Static | BindingFlags.Public) ?? throw new InvalidOperationException($"{kernel} has no Run.");

    private static IEnumerable<Type> Close(Type type)
    {
        if (!type.IsGenericTypeDefinition)
            return [type];
        Type parameter = type.GetGenericArguments().Single();
        return All.Where(candidate => candidate.IsValueType && candidate != type && parameter.GetGenericParameterConstraints().Where(c => c.IsInterface && c != typeof(ValueType)).All(c => c.IsAssignableFrom(candidate) || candidate.GetInterfaces().Contains(c)))
            .SelectMany(Close)
            .Select(argument => type.MakeGenericType(argument));
    }

    private static string Name(Type type)
    {
        string name = type.IsNested && type.DeclaringType is { } outer ? $"{outer.DeclaringType?.Name ?? outer.Name}.{type.Name}" : type.Name;
        return type.IsGenericType ? $"{name.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>" : name;
    }
}
