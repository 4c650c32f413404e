// The coordinator serves ECharts' own file under this name (coordinator/live/assets.ts).
export * from 'echarts';
